"""Band-limited geodesic shooting (FLASH): velocities of a few low frequencies a component.

A band of n (odd) frequencies an axis is kept as coefficients ``[b, d, *(n,) * d]`` of the
orthonormal real Fourier basis (1, cos, sin, cos 2, ...) of the full grid, the real form of n^d
conjugate-symmetric Fourier coefficients. Products are formed on a padded grid of 3n/2 points an
axis, which holds every product of two fields of the band without aliasing, and projected back, so
energy is kept as on the full grid. All transforms are small dense matrices: the cost does not
depend on the full grid. Derivatives are the central differences of the full grid.

Source: Zhang and Fletcher, "Fast diffeomorphic image registration via Fourier-approximated Lie
algebras", 2019.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.ops.integrators import Integrator, integrator_step
from jaxmedgen.ops.reversible import checkpointed_scan
from jaxmedgen.ops.sobolev import Metric, fourier_angles, fourier_matrix


def to_band(field: Float[Array, " b *s n"], band: int) -> Float[Array, " b n *k"]:
    """Coefficients of the `band` lowest frequencies an axis: the nearest band-limited field.

    Args:
        field: 2D or 3D, periodic.
        band: odd number of frequencies, at most the size of each axis.
    """
    shape = field.shape[1:-1]
    check_band(shape, band)
    rows = [fourier_matrix(size)[:, :band].T for size in shape]
    return _along(jnp.moveaxis(field, -1, 1), rows)


def from_band(
    coefficients: Float[Array, " b n *k"], shape: Sequence[int]
) -> Float[Array, " b *s n"]:
    """Values on the full grid of the given shape; `to_band` of them gives the coefficients.

    Any number of coefficients an axis will do here, up to that of a full grid.
    """
    rows = [fourier_matrix(size)[:, :k] for size, k in zip(shape, coefficients.shape[2:])]
    return jnp.moveaxis(_along(coefficients, rows), 1, -1)


def band_filter(
    coefficients: Float[Array, " b n *k"], shape: Sequence[int], metric: Metric, power: float | int
) -> Float[Array, " b n *k"]:
    """``K^power`` in the band: 1 for K, -1 for L, 1/2 and -1/2 for their roots.

    Args:
        coefficients: in the band.
        shape: of the full grid.
        metric: without coupled components (beta = 0) and in voxel units.
        power: of K.
    """
    if metric.coupled or metric.spacing is not None:
        raise ValueError(f"{metric}: the band needs beta = 0 and voxel units (spacing None)")
    n = coefficients.ndim - 2
    angles = [
        fourier_angles(size)[:k].reshape(*(-1 if i == j else 1 for j in range(n)))
        for i, (size, k) in enumerate(zip(shape, coefficients.shape[2:]))
    ]
    return coefficients * metric.kernel(angles, power, coefficients.dtype)[0]


def flash_slope(
    velocity: Float[Array, " b n *k"], shape: Sequence[int], metric: Metric
) -> Float[Array, " b n *k"]:
    """``-K[sum_j (D_i v_j) * m_j + sum_j D_j (v_j * m_i)]`` in the band, ``m = L v``.

    Args:
        velocity: coefficients.
        shape: of the full grid.
        metric: as in `band_filter`.
    """
    return _slopes(velocity, jnp.zeros_like(velocity), shape, metric)[0]


def flash_inverse_slope(
    inverse: Float[Array, " b n *k"],
    velocity: Float[Array, " b n *k"],
    shape: Sequence[int],
    metric: Metric,
) -> Float[Array, " b n *k"]:
    """``-v - sum_j (D_j u) * v_j``: how the displacement u of the inverse map changes.

    Args:
        inverse: coefficients of u.
        velocity: coefficients of v.
        shape: of the full grid.
        metric: as in `band_filter`.
    """
    return _slopes(velocity, inverse, shape, metric)[1]


def _slopes(v, u, shape, metric):
    """Slopes of velocity and inverse displacement.

    Every transform along an axis is one matrix product of all fields at once, which turns the axes
    round instead of transposing them: ``[fields, x, y, z]`` becomes ``[x, y, z, fields]`` on the
    padded grid and back.
    """
    n, count = len(shape), v.shape[0] * v.shape[1]
    value, slope, project, project_slope = _matrices(tuple(shape), v.shape[2])
    m = band_filter(v, shape, metric, -1)
    stack = jnp.concatenate([x.reshape(count, *x.shape[2:]) for x in (v, u, m)])
    for place, axis in enumerate(reversed(range(n))):
        moving = jax.lax.slice_in_dim(stack, 0, 2 * count, axis=place)
        turned = [_turn(value[axis], stack), _turn(slope[axis], moving)]
        stack = jnp.concatenate(turned, place + 1)
    stack = stack.reshape(*stack.shape[:n], -1, *v.shape[:2])  # [*p, kind, b, component]
    v_here, m_here = stack[..., 0, :, :], stack[..., 2, :, :]
    # Derivatives were appended from the last axis to the first.
    dv = [stack[..., 3 + 2 * (n - 1 - j), :, :] for j in range(n)]
    du = [stack[..., 4 + 2 * (n - 1 - j), :, :] for j in range(n)]
    turned = jnp.stack([jnp.sum(d * m_here, -1) for d in dv], -1)
    carried = sum(d * v_here[..., j : j + 1] for j, d in enumerate(du))
    fluxes = [v_here[..., j : j + 1] * m_here for j in range(n)]
    products = [x.reshape(*x.shape[:n], count) for x in (turned, carried, *fluxes)]
    stack = jnp.concatenate(products, n)
    for axis in range(n):
        place = n - axis
        kept, own, rest = jnp.split(stack, (2 * count, 3 * count), place)
        stack = _turn_back(project[axis], jnp.concatenate([kept, rest], place))
        # D is skew: projecting on -D of the basis applies D after the projection.
        own = _turn_back(project_slope[axis], own)
        first, others = jnp.split(stack, (count,), place - 1)
        stack = jnp.concatenate([first - own, others], place - 1)
    turned, carried = stack[:count].reshape(v.shape), stack[count:].reshape(v.shape)
    return -band_filter(turned, shape, metric, 1), -v - carried


def _turn(matrix, x):
    """Applies a matrix to the last axis, which comes out first."""
    matrix = jnp.asarray(matrix, x.dtype)
    return jax.lax.dot_general(matrix, x, (((1,), (x.ndim - 1,)), ((), ())), precision="highest")


def _turn_back(matrix, x):
    """Applies a matrix to the first axis, which comes out last."""
    matrix = jnp.asarray(matrix, x.dtype)
    return jax.lax.dot_general(x, matrix, (((0,), (1,)), ((), ())), precision="highest")


def shoot_flash(
    velocity: Float[Array, " b n *k"],
    shape: Sequence[int],
    metric: Metric,
    *,
    steps: int = 10,
    integrator: Integrator | str = "rk4",
) -> tuple[Float[Array, " b n *k"], Float[Array, " b n *k"]]:
    """Follows a geodesic within the band for one unit of time.

    Args:
        velocity: coefficients of v_0, from `to_band`.
        shape: of the full grid.
        metric: as in `band_filter`.
        steps: number of time steps.
        integrator: as in `shoot`.

    Returns:
        Coefficients of v_1 and of the displacement of the inverse map; `from_band` gives fields.

    Raises:
        ValueError: for an even band, one larger than an axis, or a metric that couples components.
    """
    check_band(shape, velocity.shape[2])
    if steps < 1:
        raise ValueError(f"steps {steps} must be at least 1")

    def slope(state):
        return _slopes(*state, shape, metric)

    def step(state):
        return integrator_step(integrator, slope, state, 1.0 / steps)

    return checkpointed_scan(step, (velocity, jnp.zeros_like(velocity)), steps)


def check_band(shape: Sequence[int], band: int) -> None:
    """Raises a ValueError unless `band` is odd and fits into every axis."""
    if band % 2 == 0 or not 0 < band <= min(shape):
        raise ValueError(
            f"band {band} must be odd (a constant and pairs of cosine and sine) and at most the "
            f"smallest axis of {tuple(shape)}"
        )


@functools.cache
def _matrices(shape, band):
    """Evaluation on the padded grid, of values and derivatives, and the projections, by axis."""
    points = 3 * (band // 2) + 1
    value, slope, project, project_slope = [], [], [], []
    for size in shape:
        angle = fourier_angles(size)[:band]
        k = (np.arange(band) + 1) // 2
        phase = 2 * np.pi * k * np.arange(points)[:, None] / points
        sine = (np.arange(band) % 2 == 0) & (k > 0)
        scale = np.where(k > 0, np.sqrt(2.0), 1.0) / np.sqrt(size)
        here = np.where(sine, np.sin(phase), np.cos(phase)) * scale
        # The central difference of a wave of angle a is sin(a) times its derivative in phase.
        there = np.where(sine, np.cos(phase), -np.sin(phase)) * scale * np.sin(angle)
        value.append(here)
        slope.append(there)
        project.append(here.T * size / points)
        project_slope.append(there.T * size / points)
    return value, slope, project, project_slope


def _along(x: jax.Array, rows) -> jax.Array:
    """Applies one matrix ``[new, old]`` to each spatial axis of ``[b, c, *old]``."""
    letters = "xyz"[: len(rows)]
    for axis, row in zip(letters, rows):
        old, new = letters, letters.replace(axis, "o")
        x = jnp.einsum(
            f"o{axis},bc{old}->bc{new}", jnp.asarray(row, x.dtype), x, precision="highest"
        )
    return x
