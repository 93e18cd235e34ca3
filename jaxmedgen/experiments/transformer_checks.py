"""Numerical checks of the transformers, each a number that should be small (or positive).

Identity at zero, inverse consistency, folding, dimensions and bases of CPAB, gradients against
finite differences.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.ops.cpab_tessellation import Tessellation, nodal_basis, svd_basis
from jaxmedgen.ops.deformable_transformers import CPAB, transformer
from jaxmedgen.ops.field_measures import jacobian_determinant
from jaxmedgen.ops.fields import compose, exp_velocity, identity_grid
from jaxmedgen.ops.filters import gaussian_filter

SCALES: Mapping[str, float] = {
    "affine": 0.1,
    "affine_decomposed": 0.1,
    "affinediff": 0.1,
    "rigid": 0.2,
    "cpab": 0.05,
    "svf": 1.0,
    "geodesic": 1.0,
    "affinediff+svf": 0.1,
}
"""Standard deviation of the random parameters of each family."""

CPAB_DIMENSIONS = {
    (2, 2): 14,
    (2, 4): 30,
    (3, 3): 34,
    (4, 4): 62,
    (2, 2, 2): 27,
    (3, 3, 3): 96,
}
"""Published dimensions of the velocity space with zero boundary, by cells."""

_SIDE = 32
_STEP = 3e-3  # largest change of a parameter in finite differences


def families() -> dict[str, float]:
    """Checks of all families on an image of 32 x 32.

    Returns:
        ``identity``: largest displacement in voxels of zero parameters; ``affinediff_inverse``:
        largest inverse error in half images; ``determinant``: the least of all families;
        ``gradient``: largest relative error over affinediff, cpab and svf.
    """
    shape = (_SIDE, _SIDE)
    identity, determinant = 0.0, np.inf
    affine_error = np.nan
    for name, scale in SCALES.items():
        family = transformer(name, 2, grid=6)
        random = np.random.default_rng(0).normal(size=(2, family.size(shape)))
        parameters = np.concatenate([scale * random, np.zeros_like(random[:1])])

        @jax.jit
        def look(parameters, family=family):
            there, _ = family.pair(parameters, shape)
            back = family.move(parameters, there, shape, inverse=True)
            grid = identity_grid(shape)
            return there - grid, back - grid, jacobian_determinant(there - grid)

        moved, missed, jacobian = map(np.asarray, look(jnp.asarray(parameters, jnp.float32)))
        identity = max(identity, float(np.abs(moved[-1]).max()))
        determinant = min(determinant, float(jacobian.min()))
        if name == "affinediff":
            affine_error = float(np.linalg.norm(missed, axis=-1).max()) * 2 / (_SIDE - 1)
    slopes = [_slope_error(name) for name in ("affinediff", "cpab", "svf")]
    return {
        "identity": identity,
        "affinediff_inverse": affine_error,
        "determinant": determinant,
        "gradient": max(slopes),
    }


def _slope_error(name: str) -> float:
    """Relative difference of the gradient's length and a central difference along the gradient.

    Other directions may be nearly level, where a relative difference says nothing.
    """
    shape = (12, 12)
    family, rng = transformer(name, 2, grid=6), np.random.default_rng(2)
    parameters = jnp.asarray(0.05 * rng.normal(size=(1, family.size(shape))), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(*shape, 2)), jnp.float32)

    def loss(parameters):
        return (jnp.sin(0.3 * family.coordinates(parameters, shape)) * weights).sum()

    @jax.jit
    def both(parameters):
        gradient = jax.grad(loss)(parameters)
        length = jnp.linalg.norm(gradient)
        step = _STEP / jnp.abs(gradient).max()
        high, low = (loss(parameters + sign * step * gradient) for sign in (1, -1))
        return length**2, (high - low) / (2 * step)

    slope, difference = map(float, both(parameters))
    return abs(slope - difference) / abs(slope)


def cpab(cells: tuple[int, ...], deviation: float | int) -> dict[str, float]:
    """Inverse consistency on a side of 32 and agreement of the two bases, mean and in voxels.

    Args:
        cells: rectangles or boxes an axis.
        deviation: standard deviation of theta in the orthonormal basis.
    """
    shape = (_SIDE,) * len(cells)
    family, tessellation = CPAB(cells, basis="svd"), Tessellation(cells)
    theta = deviation * jax.random.normal(jax.random.key(0), (4, family.size(shape)))
    points = jax.random.uniform(jax.random.key(1), (1, 1000, len(shape))) * (_SIDE - 1)
    change = np.linalg.lstsq(nodal_basis(tessellation), svd_basis(tessellation), rcond=None)[0]
    nodal = jnp.asarray(np.asarray(theta) @ change.T, jnp.float32)

    @jax.jit
    def look(theta, nodal):
        moved = family.move(theta, points, shape)
        back = family.move(theta, moved, shape, inverse=True)
        return moved, back - points, CPAB(cells).move(nodal, points, shape) - moved

    moved, missed, parity = look(theta, nodal)
    length = [float(jnp.linalg.norm(x, axis=-1).mean()) for x in (moved - points, missed, parity)]
    return dict(zip(("displacement", "inverse", "parity"), length))


def cpab_wrong_dimensions() -> int:
    """How many tessellations of `CPAB_DIMENSIONS` have another dimension than published."""
    found = {cells: CPAB(cells).size((_SIDE,) * len(cells)) for cells in CPAB_DIMENSIONS}
    return sum(found[cells] != wanted for cells, wanted in CPAB_DIMENSIONS.items())


def velocity_inverse(
    shape: tuple[int, ...] = (48, 48, 48), smoothness: float | int = 8, speed: float | int = 10
) -> tuple[float, float]:
    """Mean and largest distance in voxels by which Exp(-v) misses the inverse of Exp(v).

    Seven squarings, linear composition; a smooth velocity of a given greatest speed that falls to
    zero at the border, so that nothing leaves the image. All voxels count.

    Args:
        shape: of the image.
        smoothness: standard deviation of the Gaussian filter, voxels.
        speed: greatest length of the velocity, voxels.
    """
    noise = np.random.default_rng(0).normal(size=(1, *shape, len(shape)))
    windows = [np.sin(np.pi * np.arange(side) / (side - 1)) ** 2 for side in shape]
    window = functools.reduce(np.multiply.outer, windows)
    v = gaussian_filter(jnp.asarray(noise, jnp.float32), smoothness)
    v = v * jnp.asarray(window, jnp.float32)[..., None]
    v = v * (speed / jnp.linalg.norm(v, axis=-1).max())

    @jax.jit
    def look(v):
        return jnp.linalg.norm(compose(exp_velocity(v), exp_velocity(-v)), axis=-1)

    missed = look(v)
    return float(missed.mean()), float(missed.max())
