"""What a translating model makes of images, as pictures: RGB or grey arrays, 2D images."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.data.phantoms.cluttered_digits import ClutteredDigits
from jaxmedgen.report.pictures import Rgb, montage
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.translation.genseg import GenSeg

_SHOWN = 8
_DRAWS = 3


def translation_grid(
    system: GenSeg, variables: PlayerVariables, digits: ClutteredDigits, scale: int = 3
) -> Rgb:
    """Digits removed, segmented and added, an image a column.

    Rows: images with a digit, digit removed, the truth, what changed, segmentation, mask; then
    images without one, and digits added to them with three draws of u.
    """
    records = [digits[i] for i in range(_SHOWN)]
    image, absent = (jnp.stack([r[name] for r in records]) for name in ("image", "absent"))
    keys = jax.random.split(jax.random.key(0), _SHOWN)
    absence, presence = system.domain_names[:2]
    move = jax.jit(system.translate, static_argnums=3)
    removed = move(variables, keys, image, absence)
    rows = [
        image,
        removed,
        np.stack([digits.without(i) for i in range(_SHOWN)]),
        np.abs(np.asarray(image - removed)),
        1 - np.asarray(jax.jit(system.predict)(variables, image))[..., :1],
        np.stack([r["label"] for r in records])[..., None],
        absent,
    ]
    for draw in range(_DRAWS if system.net.split else 0):
        look = jax.vmap(lambda key, n=draw: jax.random.fold_in(key, n))(keys)
        rows.append(move(variables, look, absent, presence))
    tiles = [_tile(x, scale) for row in rows for x in np.asarray(row)]
    return montage(tiles, columns=_SHOWN, gap=2)


def _tile(image: np.ndarray, scale: int) -> np.ndarray:
    """Values 0 to 1 as grey levels, each pixel a square."""
    grey = np.round(np.clip(image[..., 0], 0, 1) * 255).astype(np.uint8)
    return grey.repeat(scale, 0).repeat(scale, 1)
