"""Spherical harmonics, their rotation by Wigner matrices, and Clebsch-Gordan coefficients.

Float64 tables made on the host, for filters and couplings that are constants of a program.
Vectors are in array-axis order; the last component is the polar axis. Degrees ``0..N`` stand one
after the other in an axis of length ``(N + 1)^2``, each with its orders ``m = -n..n``.

Conventions are those of quantum mechanics: the phase ``(-1)^m`` of Condon and Shortley is contained
in ``Y_{n,m}``, ``Y_{n,-m} = (-1)^m conj(Y_{n,m})``, and a rotation acts on functions by
``(R f)(v) = f(R^-1 v)``. Source: Varshalovich, Moskalev, Khersonskii, "Quantum theory of angular
momentum", 1988, chapters 4, 5 and 8.
"""

import functools
import math
from fractions import Fraction

import numpy as np
import scipy.linalg
import scipy.special
from jaxtyping import Complex, Float, Real
from scipy.spatial.transform import Rotation


def degree_slice(n: int) -> slice:
    """Where degree `n` stands among all degrees."""
    return slice(n * n, (n + 1) ** 2)


def spherical_harmonics(
    degree: int, vectors: Float[np.ndarray, "*p 3"]
) -> Complex[np.ndarray, "*p i"]:
    """Complex harmonics ``Y_{n,m}`` of the directions of some vectors, orthonormal on the sphere.

    Args:
        degree: the largest degree ``N``.
        vectors: of any length. The zero vector has no direction: every degree above 0 is 0 there.

    Returns:
        Values ``[*p, (N + 1)^2]``.

    Raises:
        ValueError: a negative degree.
    """
    if degree < 0:
        raise ValueError(f"degree {degree} must not be negative")
    x, y, z = np.moveaxis(np.asarray(vectors, np.float64), -1, 0)
    polar, azimuth = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    somewhere = (x != 0) | (y != 0) | (z != 0)
    columns = [
        scipy.special.sph_harm_y(n, m, polar, azimuth) * (somewhere | (n == 0))
        for n in range(degree + 1)
        for m in range(-n, n + 1)
    ]
    return np.stack(columns, -1)


def real_spherical_harmonics(
    degree: int, vectors: Float[np.ndarray, "*p 3"]
) -> Float[np.ndarray, "*p i"]:
    """Real harmonics, orthonormal; degree 1 is ``sqrt(3 / 4 pi) (v_1, v_2, v_0) / |v|``.

    ``sqrt(2) (-1)^m Re Y_{n,m}`` for ``m > 0`` and ``sqrt(2) (-1)^m Im Y_{n,|m|}`` for ``m < 0``.
    Arguments as in `spherical_harmonics`.
    """
    values = spherical_harmonics(degree, vectors)
    parts = [values[..., degree_slice(n)] @ real_basis(n).T for n in range(degree + 1)]
    return np.concatenate(parts, -1).real


def solid_harmonics(degree: int, vectors: Float[np.ndarray, "*p 3"]) -> Float[np.ndarray, "*p i"]:
    """Real solid harmonics ``|v|^n Y_n(v / |v|)``: homogeneous polynomials with zero Laplacian.

    Arguments as in `spherical_harmonics`.
    """
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    powers = [length**n for n in range(degree + 1) for _ in range(2 * n + 1)]
    return np.concatenate(powers, -1) * real_spherical_harmonics(degree, vectors)


@functools.cache
def real_basis(n: int) -> Complex[np.ndarray, "m m"]:
    """Unitary ``U`` with ``Y_real = U Y_complex`` for one degree."""
    u = np.zeros((2 * n + 1, 2 * n + 1), complex)
    u[n, n] = 1
    for m in range(1, n + 1):
        sign, half = (-1) ** m, math.sqrt(0.5)
        # Re and Im by Y_{n,-m} = (-1)^m conj(Y_{n,m}).
        u[n + m, n + m], u[n + m, n - m] = sign * half, half
        u[n - m, n + m], u[n - m, n - m] = -1j * sign * half, 1j * half
    u.flags.writeable = False
    return u


def wigner_matrix(n: int, rotation: Real[np.ndarray, "3 3"]) -> Complex[np.ndarray, "m m"]:
    """Wigner's ``D^n(R)``: ``Y_m(R^-1 v) = sum_k D[k, m] Y_k(v)``.

    Coefficients of ``f = sum_m C[m] Y_m`` become ``D C`` when `f` is rotated, and
    ``D(R S) = D(R) D(S)``. Computed as ``exp(-i w . J)`` from the rotation vector ``w`` and the
    angular momentum matrices ``J``, which has no singular angles.

    Args:
        n: degree.
        rotation: orthogonal matrix in array-axis order; an improper one is a rotation times the
            inversion, which multiplies degree `n` by ``(-1)^n``.

    Raises:
        ValueError: the matrix is not orthogonal.
    """
    matrix = np.asarray(rotation, np.float64)
    if matrix.shape != (3, 3) or not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-6):
        raise ValueError(f"rotation {matrix.tolist()} must be an orthogonal 3 x 3 matrix")
    sign = 1.0 if np.linalg.det(matrix) > 0 else -1.0
    vector = Rotation.from_matrix(sign * matrix).as_rotvec()
    values, basis = np.linalg.eigh(np.einsum("a,aij->ij", vector, _angular_momentum(n)))
    return sign**n * (basis * np.exp(-1j * values)) @ basis.conj().T


def real_wigner_matrix(n: int, rotation: Real[np.ndarray, "3 3"]) -> Float[np.ndarray, "m m"]:
    """The orthogonal matrix that rotates coefficients of real harmonics; see `wigner_matrix`."""
    u = real_basis(n)
    return (u.conj() @ wigner_matrix(n, rotation) @ u.T).real


def real_wigner_matrices(
    degree: int, rotations: Real[np.ndarray, "r 3 3"]
) -> Float[np.ndarray, "r i i"]:
    """Block-diagonal `real_wigner_matrix` of all degrees ``0..N`` for several rotations."""
    return np.stack(
        [
            scipy.linalg.block_diag(*(real_wigner_matrix(n, r) for n in range(degree + 1)))
            for r in rotations
        ]
    )


@functools.cache
def clebsch_gordan(n1: int, n2: int, n: int) -> Float[np.ndarray, "m1 m2 m"]:
    """Coefficients ``<n1 m1 n2 m2 | n m>`` that couple two degrees to a third.

    ``sum_{m1,m2} C[m1, m2, m] a[m1] b[m2]`` rotates as degree `n` if `a`, `b` rotate as `n1`, `n2`.
    Racah's sum in exact arithmetic.

    Args:
        n1: first degree.
        n2: second degree.
        n: coupled degree, from ``|n1 - n2|`` to ``n1 + n2``.

    Raises:
        ValueError: the degrees do not couple.
    """
    if min(n1, n2, n) < 0 or not abs(n1 - n2) <= n <= n1 + n2:
        raise ValueError(
            f"degrees {n1} and {n2} couple to degrees {abs(n1 - n2)} to {n1 + n2}; n is {n}"
        )
    table = np.zeros((2 * n1 + 1, 2 * n2 + 1, 2 * n + 1))
    for m1 in range(-n1, n1 + 1):
        for m2 in range(max(-n2, -n - m1), min(n2, n - m1) + 1):
            table[m1 + n1, m2 + n2, m1 + m2 + n] = _racah(n1, m1, n2, m2, n)
    table.flags.writeable = False
    return table


@functools.cache
def real_clebsch_gordan(n1: int, n2: int, n: int) -> Float[np.ndarray, "m1 m2 m"]:
    """The coupling in real harmonics: ``clebsch_gordan`` between bases of `real_basis`.

    For an even sum of degrees the transformed table is real, for an odd one imaginary; the phase
    is dropped, so that ``sum C[a, b, c] x[a] y[b] z[c]`` is the real part of the bispectrum in the
    even case and its imaginary part in the odd one.
    """
    u1, u2, u = (real_basis(v).conj() for v in (n1, n2, n))
    table = np.einsum("am,bk,cl,mkl->abc", u1, u2, u.conj(), clebsch_gordan(n1, n2, n))
    table = table.imag if (n1 + n2 + n) % 2 else table.real
    table.flags.writeable = False
    return table


@functools.cache
def _angular_momentum(n: int) -> Complex[np.ndarray, "3 m m"]:
    m = np.arange(-n, n)
    up = np.diag(np.sqrt(n * (n + 1) - m * (m + 1.0)), -1)  # J+ takes m to m + 1
    x, y, z = (up + up.T) / 2, (up - up.T) / 2j, np.diag(np.arange(-n, n + 1.0))
    return np.stack([x, y, z])


def _racah(n1: int, m1: int, n2: int, m2: int, n: int) -> float:
    f = math.factorial
    m = m1 + m2
    total = Fraction(0)
    for k in range(max(0, n2 - n - m1, n1 + m2 - n), min(n1 + n2 - n, n1 - m1, n2 + m2) + 1):
        bottom = f(k) * f(n1 + n2 - n - k) * f(n1 - m1 - k) * f(n2 + m2 - k)
        bottom *= f(n - n2 + m1 + k) * f(n - n1 - m2 + k)
        total += Fraction((-1) ** k, bottom)
    square = Fraction(
        (2 * n + 1) * f(n1 + n2 - n) * f(n1 - n2 + n) * f(n2 - n1 + n), f(n1 + n2 + n + 1)
    )
    square *= f(n + m) * f(n - m) * f(n1 + m1) * f(n1 - m1) * f(n2 + m2) * f(n2 - m2)
    return math.copysign(math.sqrt(square * total**2), total)
