"""Steerable 3D filters: radial profiles times spherical harmonics, and their invariants.

A filter ``f(v) = sum_n h_n(|v|) sum_m a_n[m] Y_{n,m}(v / |v|)`` turns with a rotation by turning
its coefficients, so the ``(N + 1)^2`` responses ``r_{n,m} = I * (h_n Y_{n,m})`` contain the
responses to all rotated copies, and invariants of every rotation. All harmonics here are real.

Sources: Andrearczyk, Fageot, Oreiller, Montet, Depeursinge, "Local rotation invariance in 3D
CNNs", 2020 (S-LRI, SSE-LRI); Oreiller, Andrearczyk, Fageot, Prior, Depeursinge, "3D solid spherical
harmonics bispectrum CNNs for biomedical texture analysis", 2020 (SSB-LRI); Weiler, Geiger, Welling,
Boomsma, Cohen, "3D steerable CNNs", 2018 (kernels between irreducible representations).
"""

import math
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real
from scipy.spatial.transform import Rotation

from jaxmedgen.ops.conv import Padding, conv
from jaxmedgen.ops.groups import point_group
from jaxmedgen.ops.harmonics import (
    degree_slice,
    real_clebsch_gordan,
    real_spherical_harmonics,
    real_wigner_matrices,
)

Profile = Literal["linear", "smooth"]
_UNIT = (1.0, 1.0, 1.0)


def linear_profiles(
    rho: Float[np.ndarray, "*k"], count: int, *, step: float | int = 1.0
) -> Float[np.ndarray, "*k r"]:
    """Hat functions at the radii ``0, step, ..``: linear interpolation between values there.

    Args:
        rho: distances from the centre.
        count: number of radii; beyond the last one plus `step` all are zero.
        step: distance of the radii, in the unit of `rho`.
    """
    return np.maximum(0.0, 1 - np.abs(np.asarray(rho)[..., None] / step - np.arange(count)))


def smooth_profiles(
    rho: Float[np.ndarray, "*k"], count: int, *, radius: float | int
) -> Float[np.ndarray, "*k r"]:
    """Smooth bumps of compact support, equally spaced inside ``(0, radius)``; all zero at 0.

    With ``u = rho / step - j``, ``step = radius / (count + 1)``, ``j = 1..count``:
    ``1.14136 e^2 exp(-1 / (1 + u) - 1 / (1 - u))`` for ``|u| < 1``. The sum of their squares
    is 1 on average inside.

    Args:
        rho: distances from the centre.
        count: number of bumps.
        radius: where the last one has vanished, in the unit of `rho`.
    """
    u = np.asarray(rho)[..., None] * (count + 1) / radius - np.arange(1, count + 1)
    inside = np.abs(u) < 1
    # 1 / (1 + u) + 1 / (1 - u) = 2 / (1 - u^2)
    exponent = 2 - 2 / np.where(inside, 1 - u**2, 1.0)
    return np.where(inside, 1.14136 * np.exp(exponent), 0.0)


def steerable_basis(
    taps: int | Sequence[int],
    degree: int,
    *,
    profile: Profile = "linear",
    count: int | None = None,
    spacing: Sequence[float | int] = _UNIT,
) -> Float[np.ndarray, "k1 k2 k3 r i"]:
    """Sampled products of radial profiles and real harmonics.

    Distances and angles are those in mm, so on anisotropic voxels the filters are round in mm.

    Args:
        taps: size of the kernel in voxels, one odd number or three.
        degree: largest degree ``N``; above ``min(taps) - 1`` the samples cannot tell degrees apart.
        profile: values at equally spaced radii, or smooth bumps.
        count: number of profiles. By default enough to reach the corners (linear: 7 for 7 taps) or
            as many as taps along an axis (smooth).
        spacing: voxel size an axis; radii are steps of the smallest.

    Returns:
        float64 ``[*taps, count, (N + 1)^2]``; at the centre only degree 0 is not zero.

    Raises:
        ValueError: even taps, a degree that aliases, a bad spacing or count.
    """
    sizes = (taps,) * 3 if isinstance(taps, int) else tuple(taps)
    if len(sizes) != 3 or any(k < 1 or k % 2 == 0 for k in sizes):
        raise ValueError(f"taps {taps} must be one odd number or three")
    if len(spacing) != 3 or min(spacing) <= 0:
        raise ValueError(f"spacing {tuple(spacing)} must be three positive numbers")
    if not 0 <= degree <= min(sizes) - 1:
        raise ValueError(
            f"degree {degree} must lie in 0 to {min(sizes) - 1} for {sizes} taps: higher degrees "
            "alias; take more taps"
        )
    vectors = np.stack(
        np.meshgrid(*(_centred(k, s) for k, s in zip(sizes, spacing)), indexing="ij")
    )
    vectors = np.moveaxis(vectors, 0, -1)
    rho, step = np.linalg.norm(vectors, axis=-1), min(spacing)
    reach = max((k - 1) / 2 * s for k, s in zip(sizes, spacing))
    if count is None:
        corner = math.ceil(round(rho.max() / step, 6)) + 1
        count = corner if profile == "linear" else max(sizes)
    if count < 1:
        raise ValueError(f"count {count} must be at least 1")
    if profile == "linear":
        radial = linear_profiles(rho, count, step=step)
    elif profile == "smooth":
        radial = smooth_profiles(rho, count, radius=reach + step / 2)
    else:
        raise ValueError(f"profile {profile!r} must be 'linear' or 'smooth'")
    return radial[..., :, None] * real_spherical_harmonics(degree, vectors)[..., None, :]


def steerable_conv(
    x: Float[Array, " b *s ci"],
    radial: Float[Array, "ci f d r"],
    basis: Float[np.ndarray, "k1 k2 k3 r i"],
    *,
    padding: Padding = "SAME",
) -> Float[Array, " b *s2 f i"]:
    """Responses ``r_{n,m}`` of `f` filters, summed over the input channels.

    Args:
        x: volumes.
        radial: weights of the profiles for every input channel and filter; ``d = N + 1`` for one
            profile a degree, or 1 for one that all degrees share ("polar separable").
        basis: from `steerable_basis`.
        padding: as in `conv`.

    Returns:
        Responses ``[b, *s2, f, (N + 1)^2]``; they rotate by `real_wigner_matrices`.
    """
    items = basis.shape[-1]
    degree = math.isqrt(items) - 1
    if radial.shape[2] not in (1, degree + 1) or radial.shape[3] != basis.shape[3]:
        raise ValueError(
            f"radial {radial.shape} must be [ci, f, 1 or {degree + 1}, {basis.shape[3]}] for a "
            f"basis {basis.shape} of degree {degree}"
        )
    of_item = np.repeat(np.arange(degree + 1), 2 * np.arange(degree + 1) + 1)
    weights = radial[:, :, of_item if radial.shape[2] > 1 else 0 * of_item]
    kernel = jnp.einsum("xyzri,cfir->xyzcfi", jnp.asarray(basis, x.dtype), weights)
    y = conv(x, kernel.reshape(*kernel.shape[:4], -1), padding=padding)
    return y.reshape(*y.shape[:-1], radial.shape[1], items)


def steer(
    responses: Float[Array, "*s f i"],
    coefficients: Float[Array, "f i"],
    rotations: Real[np.ndarray, "m 3 3"],
) -> Float[Array, "*s f m"]:
    """Responses to the filters with some coefficients, turned by each of several rotations.

    Their maximum over the rotations is the S-LRI layer.

    Args:
        responses: from `steerable_conv`.
        coefficients: ``a_n[m]`` in real harmonics, for every filter.
        rotations: matrices in array-axis order, such as `rotation_set`.
    """
    degree = math.isqrt(responses.shape[-1]) - 1
    matrices = jnp.asarray(real_wigner_matrices(degree, rotations), responses.dtype)
    turned = jnp.einsum("mij,fj->fmi", matrices, coefficients)
    return jnp.einsum("...fi,fmi->...fm", responses, turned)


def rotation_set(count: int) -> Float[np.ndarray, "m 3 3"]:
    """1, 4, 24 or 72 rotations: the identity, C4, those of the cube, and a set finer than that.

    In the 72 the last axis points to the 6 faces and 12 edges of the cube, with four rolls each.

    Raises:
        ValueError: another count.
    """
    if count == 1:
        return np.eye(3)[None]
    if count == 4:
        return point_group("C4").matrices.astype(float)
    cube = point_group("O").matrices.astype(float)
    if count == 24:
        return cube
    if count != 72:
        raise ValueError(f"count {count} must be 1, 4, 24 or 72")
    directions = np.array(
        [v for v in np.ndindex(3, 3, 3) if np.abs(np.array(v) - 1).sum() in (1, 2)]
    )
    rolls = Rotation.from_euler("z", 90 * np.arange(4)[:, None], degrees=True)
    tilts = [_tilt(v / np.linalg.norm(v)) for v in directions - 1.0]
    return np.concatenate([(tilt * rolls).as_matrix() for tilt in tilts])


def power_spectrum(responses: Float[Array, "*s i"]) -> Float[Array, "*s n"]:
    """``s_n = sum_m r_{n,m}^2``, one invariant a degree (the SSE-LRI layer)."""
    degree = math.isqrt(responses.shape[-1]) - 1
    parts = [jnp.sum(responses[..., degree_slice(n)] ** 2, -1) for n in range(degree + 1)]
    return jnp.stack(parts, -1)


def bispectrum_triples(degree: int) -> tuple[tuple[int, int, int], ...]:
    """Degrees ``n1 <= n2 <= n <= n1 + n2`` up to `degree` whose bispectrum is not zero by symmetry.

    Other orders of the same three are multiples of these; with an odd sum and two equal degrees
    the coefficient vanishes.
    """
    return tuple(
        (a, b, c)
        for a in range(degree + 1)
        for b in range(a, degree + 1)
        for c in range(b, min(a + b, degree) + 1)
        if (a + b + c) % 2 == 0 or a < b < c
    )


def bispectrum(
    responses: Float[Array, "*s i"], triples: Sequence[tuple[int, int, int]] | None = None
) -> Float[Array, "*s t"]:
    """``b = [(r_n1 x r_n2) C]_n . conj(r_n)``, invariant and sensitive to relative orientation.

    The real part where ``n1 + n2 + n`` is even and the imaginary part where it is odd; the other
    one is zero. (The SSB-LRI layer.)

    Args:
        responses: from `steerable_conv`.
        triples: degrees ``(n1, n2, n)``; `bispectrum_triples` by default.
    """
    degree = math.isqrt(responses.shape[-1]) - 1
    values = []
    for triple in bispectrum_triples(degree) if triples is None else triples:
        table = jnp.asarray(real_clebsch_gordan(*triple), responses.dtype)
        a, b, c = (responses[..., degree_slice(n)] for n in triple)
        values.append(jnp.einsum("...a,...b,...c,abc->...", a, b, c, table))
    return jnp.stack(values, -1)


def irrep_basis(
    basis: Float[np.ndarray, "k1 k2 k3 r i"], degree_in: int, degree_out: int
) -> Float[np.ndarray, "k1 k2 k3 p m_in m_out"]:
    """Kernels from fields of degree `degree_in` to `degree_out` that commute with rotations.

    ``K(v) = phi_b(|v|) sum_c Q[m_in, c, m_out] Y_{J,c}(v / |v|)`` for every profile ``b`` and every
    ``J`` from ``|l_in - l_out|`` to ``l_in + l_out`` that the basis has.

    Args:
        basis: from `steerable_basis`; its degree bounds ``J``.
        degree_in: degree of the input, with ``2 l + 1`` components in real harmonics.
        degree_out: degree of the output.

    Returns:
        Kernels, paths ordered by (J, profile).
    """
    top = math.isqrt(basis.shape[-1]) - 1
    lowest = abs(degree_in - degree_out)
    if lowest > top:
        raise ValueError(
            f"degrees {degree_in} and {degree_out} need harmonics of degree {lowest}; the basis "
            f"ends at {top}"
        )
    parts = [
        np.einsum(
            "acb,xyzrc->xyzrab",
            real_clebsch_gordan(degree_in, j, degree_out),
            basis[..., degree_slice(j)],
        )
        for j in range(lowest, min(degree_in + degree_out, top) + 1)
    ]
    return np.concatenate(parts, axis=3)


def _centred(size, spacing):
    return (np.arange(size) - (size - 1) / 2) * spacing


def _tilt(direction):
    """A rotation that takes the last axis to a direction."""
    angles = np.arctan2(direction[1], direction[0]), np.arccos(np.clip(direction[2], -1, 1))
    return Rotation.from_euler("ZY", angles)
