"""Matrix Lie groups of affine and rigid maps: exponential and logarithm, batched, differentiable.

Affine maps: the exponential of any ``[[A, t], [0, 0]]`` is invertible and ``exp(-a)`` inverts
``exp(a)``, which makes the parametrisation of Detlefsen & Hauberg, "Explicit disentanglement of
appearance and perspective in generative models", 2019 ("affinediff"). Rigid maps have closed forms
(Rodrigues), safe and differentiable at the identity. Sources: Higham, "Functions of matrices", 2008
(scaling and squaring, Denman-Beavers roots); Murray, Li & Sastry, "A mathematical introduction to
robotic manipulation", 1994 (SE(3)); Shepperd, "Quaternion from rotation matrix", 1978.

A homogeneous matrix acts on whatever positions its user gives it: mm about the volume's centre in
`ops.affine`, or ``[-1, 1]`` if ``2 / (size - 1)`` is passed as spacing there.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.ops.affine import check_invertible

_MAX_SQUARINGS = 10
_TAYLOR = 12  # 0.5^13 / 13! = 2e-14
_ROOTS = 4
_ROOT_ITERATIONS = 9


@jax.jit
def matrix_exponential(a: Float[Array, " *b m m"]) -> Float[Array, " *b m m"]:
    """``exp(a)`` of many small matrices at once, by scaled Taylor series of degree 12 and squaring.

    Every operation runs over the whole batch, where `jax.scipy.linalg.expm` solves a linear system
    a matrix. Each matrix is scaled to a norm below 0.5 by its own power of two, at most 2^10.

    Args:
        a: square matrices, any batch shape.
    """
    m = a.shape[-1]
    norm = jax.lax.stop_gradient(jnp.max(jnp.sum(jnp.abs(a), -1), -1))
    wanted = jnp.maximum(jnp.floor(jnp.log2(2 * jnp.maximum(norm, 1e-30))) + 1, 0)
    count = jnp.minimum(wanted, _MAX_SQUARINGS)[..., None, None]
    a = a * jnp.exp2(-count)
    eye = jnp.eye(m, dtype=a.dtype)
    # Horner; ends with exp(a) - I, which keeps the precision of small matrices when squared.
    out = a / _TAYLOR
    for k in range(_TAYLOR - 1, 0, -1):
        out = _product(a, eye + out) / k

    def square(x, step):
        return jnp.where(step < count, 2 * x + _product(x, x), x), None

    return eye + jax.lax.scan(square, out, jnp.arange(_MAX_SQUARINGS))[0]


def affine_exponential(parameters: Float[Array, " b k"]) -> Float[Array, " b m m"]:
    """``exp([[A, t], [0, 0]])`` as homogeneous maps; ``-parameters`` gives the inverse maps.

    Args:
        parameters: ``[A, t]`` row by row, 6 numbers in 2D and 12 in 3D; zero is the identity.

    Raises:
        ValueError: for another number of parameters.
    """
    return matrix_exponential(_algebra(parameters))


def affine_logarithm(matrix: Float[Array, " b m m"]) -> Float[Array, " b k"]:
    """Parameters of `affine_exponential`: the principal logarithm.

    Four matrix square roots (Denman-Beavers, 9 iterations each), then the series of
    ``2 atanh((X - I)(X + I)^-1)``. Good for scale factors between 1/100 and 100.

    Args:
        matrix: homogeneous maps of positive determinant and without negative eigenvalues (no half
            turns).

    Raises:
        ValueError: for a map that is singular, reflects, or has a negative eigenvalue. Under `jit`,
            where values are unknown, such a map gives a meaningless result.
    """
    check_invertible(matrix, orientation=True)
    if not isinstance(matrix, jax.core.Tracer):
        values = np.linalg.eigvals(np.asarray(matrix, np.float64)[:, :-1, :-1])
        bad = np.any((values.real < 0) & (np.abs(values.imag) < 1e-4 * np.abs(values)), -1)
        for index in np.flatnonzero(bad):
            raise ValueError(
                f"matrix {index} has the eigenvalues {np.round(values[index], 4)}: a negative one "
                "has no real logarithm; compose it of two smaller maps"
            )
    return _matrix_logarithm(matrix)[:, :-1].reshape(len(matrix), -1)


@jax.jit
def rigid_exponential(parameters: Float[Array, " b k"]) -> Float[Array, " b m m"]:
    """Rigid maps of rotation vector and velocity: the exponential of SE(2) or SE(3).

    Rotation ``R = I + a K + b K^2``, translation ``(I + b K + c K^2) v``, where K is the cross
    product with the rotation vector, t its length, ``a = sin t / t``, ``b = (1 - cos t) / t^2``,
    ``c = (t - sin t) / t^3``.

    Args:
        parameters: rotation in radians (1 number in 2D from axis 0 to axis 1, 3 in 3D about the
            axes), then velocity v; 3 numbers in 2D and 6 in 3D. ``-parameters`` inverts.

    Raises:
        ValueError: for another number of parameters.
    """
    axes = _axes(parameters, {3: 2, 6: 3})
    rotation, velocity = parameters[:, :-axes], parameters[:, -axes:]
    k = _skew(rotation)
    k2 = _product(k, k)
    a, b, c = _rodrigues(jnp.sum(rotation**2, -1)[:, None, None])
    eye = jnp.eye(axes, dtype=parameters.dtype)
    shift = _product(eye + b * k + c * k2, velocity[..., None])
    return _homogeneous(eye + a * k + b * k2, shift)


def rigid_logarithm(matrix: Float[Array, " b m m"]) -> Float[Array, " b k"]:
    """Parameters of `rigid_exponential`, rotation angles in [0, pi].

    The rotation is read through a unit quaternion, whose largest component is computed first: well
    conditioned at all angles, differentiable but at half turns.

    Args:
        matrix: rigid homogeneous maps.

    Raises:
        ValueError: for a map whose linear part is not a rotation (unless traced).
    """
    _check_rigid(matrix)
    return _rigid_logarithm(matrix)


@jax.jit
def _matrix_logarithm(matrix):
    eye = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    x = jax.lax.scan(lambda x, _: (_square_root(x), None), matrix, length=_ROOTS)[0]
    z = _product(x - eye, jnp.linalg.inv(x + eye))
    square = _product(z, z)
    series = eye / 17
    for k in range(15, 0, -2):
        series = eye / k + _product(square, series)
    return 2 ** (_ROOTS + 1) * _product(z, series)


@jax.jit
def _rigid_logarithm(matrix):
    axes = matrix.shape[-1] - 1
    turn, shift = matrix[:, :axes, :axes], matrix[:, :axes, axes:]
    if axes == 2:
        rotation = jnp.arctan2(turn[:, 1, 0] - turn[:, 0, 1], turn[:, 0, 0] + turn[:, 1, 1])
        rotation = rotation[:, None]
    else:
        rotation = _rotation_vector(turn)
    k = _skew(rotation)
    squared = jnp.sum(rotation**2, -1)[:, None, None]
    a, b, _ = _rodrigues(squared)
    small = squared < 0.01
    away = jnp.where(small, 1.0, squared)
    d = jnp.where(small, 1 / 12 + squared / 720 + squared**2 / 30240, (1 - a / (2 * b)) / away)
    eye = jnp.eye(axes, dtype=matrix.dtype)
    velocity = _product(eye - k / 2 + d * _product(k, k), shift)[..., 0]
    return jnp.concatenate([rotation, velocity], -1)


def _axes(parameters, known):
    count = parameters.shape[-1]
    if count not in known:
        wanted = ", ".join(f"{k} in {n}D" for k, n in known.items())
        raise ValueError(f"{count} parameters a map: give {wanted}")
    return known[count]


def _algebra(parameters):
    axes = _axes(parameters, {6: 2, 12: 3})
    top = parameters.reshape(-1, axes, axes + 1)
    return jnp.concatenate([top, jnp.zeros_like(top[:, :1])], 1)


def _product(a, b):
    """Matrix product as sums over the batch: fuses, and keeps float32 on every backend."""
    return jnp.sum(a[..., :, :, None] * b[..., None, :, :], -2)


def _square_root(x):
    """Principal square root by the product form of Denman-Beavers: ``x = m y^-1`` throughout."""
    eye = jnp.eye(x.shape[-1], dtype=x.dtype)

    def improve(state, _):
        m, y = state
        inverse = jnp.linalg.inv(m)
        return (eye / 2 + (m + inverse) / 4, _product(y, eye + inverse) / 2), None

    return jax.lax.scan(improve, (x, x), length=_ROOT_ITERATIONS)[0][1]


def _rodrigues(squared):
    """``sin t / t``, ``(1 - cos t) / t^2`` and ``(t - sin t) / t^3`` of ``t^2``, smooth at 0."""
    small = squared < 0.01
    # Both branches are differentiated: the root must not see 0.
    t = jnp.sqrt(jnp.where(small, 1.0, squared))
    s = squared
    half = jnp.sin(t / 2) / (t / 2)
    a = jnp.where(small, 1 - s / 6 + s**2 / 120 - s**3 / 5040, jnp.sin(t) / t)
    b = jnp.where(small, 1 / 2 - s / 24 + s**2 / 720 - s**3 / 40320, half**2 / 2)
    c = jnp.where(small, 1 / 6 - s / 120 + s**2 / 5040 - s**3 / 362880, (t - jnp.sin(t)) / t**3)
    return a, b, c


def _skew(rotation):
    zero = jnp.zeros_like(rotation[:, 0])
    if rotation.shape[-1] == 1:
        r = rotation[:, 0]
        rows = [[zero, -r], [r, zero]]
    else:
        x, y, z = rotation[:, 0], rotation[:, 1], rotation[:, 2]
        rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def _homogeneous(linear, shift):
    top = jnp.concatenate([linear, shift], -1)
    last = jnp.zeros_like(top[:, :1]).at[..., -1].set(1.0)
    return jnp.concatenate([top, last], 1)


def _rotation_vector(turn):
    """Rotation vectors of rotation matrices ``[b, 3, 3]``."""
    r = [[turn[:, i, j] for j in range(3)] for i in range(3)]
    skew = [r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]]
    trace = r[0][0] + r[1][1] + r[2][2]
    rows = [[1 + trace, *skew]]  # each is the quaternion (w, x, y, z) times 4 times its entry
    for i in range(3):
        row = [skew[i]]
        row += [1 + 2 * r[i][i] - trace if i == j else r[i][j] + r[j][i] for j in range(3)]
        rows.append(row)
    table = jnp.stack([jnp.stack(row, -1) for row in rows], 1)  # [b, 4, 4]
    largest = jnp.argmax(jnp.diagonal(table, axis1=1, axis2=2), -1)
    q = jnp.take_along_axis(table, largest[:, None, None], 1)[:, 0]
    q = q / jnp.linalg.norm(q, axis=-1, keepdims=True)
    q = q * jnp.where(q[:, :1] < 0, -1.0, 1.0)
    w, v = q[:, :1], q[:, 1:]
    squared = jnp.sum(v**2, -1, keepdims=True)
    small = squared < 1e-4
    sine = jnp.sqrt(jnp.where(small, 1.0, squared))
    ratio = squared / jnp.where(small, w, 1.0) ** 2
    near = 2 / jnp.where(small, w, 1.0) * (1 - ratio / 3 + ratio**2 / 5)
    return v * jnp.where(small, near, 2 * jnp.arctan2(sine, w) / sine)


def _check_rigid(matrix):
    check_invertible(matrix, orientation=True)
    if isinstance(matrix, jax.core.Tracer):
        return
    linear = np.asarray(matrix, np.float64)[:, :-1, :-1]
    error = np.abs(linear @ linear.swapaxes(1, 2) - np.eye(linear.shape[-1])).max((1, 2))
    for index in np.flatnonzero(error > 1e-3):
        raise ValueError(
            f"matrix {index} is not rigid (R R^T differs from I by {error[index]:.2g}): "
            "use affine_logarithm"
        )
