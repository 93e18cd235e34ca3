"""Random tissue around the labelled anatomy: shells such as fluid, skull and scalp.

Label maps that carry the brain alone would teach a network that everything outside is air. Here the
unlabelled background is cut into smooth shells of random number and thickness, by an approximate
distance to the foreground that a random smooth field distorts. An approximation of the extra
labels that Billot et al. 2023 obtain by clustering intensities of real scans.
"""

import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Bool, Float, Int, Key

from jaxmedgen.augment.draws import split_keys, uniform_table
from jaxmedgen.ops.filters import gaussian_filter
from jaxmedgen.ops.random_fields import random_smooth_field

_REACH = 6.0  # mm, width of the blur that stands in for a distance transform
_FARTHEST = 4.5 * _REACH  # mm, beyond which the stand-in loses its precision
_THICKNESS = (1.5, 9.0)  # mm, of one shell
_WOBBLE = 2.5  # mm, deviation of the shells' borders
_WOBBLE_SIGMA = 12.0  # mm, smoothness of that deviation


def background_shells(
    keys: Key[Array, " b"],
    distance: Float[Array, " b *s"],
    spacing: tuple[float | int, ...],
    *,
    shells: int,
) -> Int[Array, " b *s"]:
    """Index of the shell of every voxel: 1 next to the foreground, rising outwards; 0 is air.

    Each sample has a random number of shells, 0 to `shells`. Only meaningful outside of the
    foreground; holes inside it belong to the first shell.

    Args:
        keys: one key a sample.
        distance: to the labelled anatomy in mm, see `soft_distance`.
        spacing: voxel size in mm.
        shells: largest number of shells.
    """
    table_keys, field_keys = split_keys(keys, 2)
    u = uniform_table(table_keys, 1, shells + 1)[:, 0]
    low, high = _THICKNESS
    thickness = low + (high - low) * u[:, :shells]
    count = jnp.floor(u[:, shells] * (shells + 1))  # [b]
    axes = distance.ndim - 1
    sigma = tuple(_WOBBLE_SIGMA / s for s in spacing)
    wobble = random_smooth_field(field_keys, distance.shape[1:], sigma)[..., 0]
    outer = jnp.cumsum(thickness, 1)  # outer border of each shell in mm
    index = jnp.ones(distance.shape, jnp.int32)
    for shell in range(shells):
        index += distance + _WOBBLE * wobble > outer[:, shell].reshape(-1, *(1,) * axes)
    # `soft_distance` saturates far out, where there is but air.
    reached = (index <= count.reshape(-1, *(1,) * axes)) & (distance < _FARTHEST)
    return jnp.where(reached, index, 0)


def soft_distance(
    foreground: Bool[Array, " b *s"], spacing: tuple[float | int, ...]
) -> Float[Array, " b *s"]:
    """Smooth signed distance to the foreground in mm, negative inside, up to about 28 mm.

    A Gaussian blur turns a flat border into the normal distribution of the distance, so its inverse
    gives the distance back: exact for planes, too large outside of convex shapes.
    """
    sigma = tuple(_REACH / s for s in spacing)
    blurred = gaussian_filter(foreground[..., None].astype(jnp.float32), sigma)[..., 0]
    return -_REACH * ndtri(jnp.clip(blurred, 1e-6, 1.0 - 1e-6))
