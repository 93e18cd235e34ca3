"""The picture of docs/augmentation.md: each preset on two images with lesions.

python docs/pictures/augmentation.py
"""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from jaxmedgen.augment.presets import preset
from jaxmedgen.data.phantoms import LesionImages, Shift

NAMES = (
    "none affine elastic elastic_noise diffeo geodesic gamma bias companions "
    "mixup cutout cutmix carvemix nnunet3d nnunet_brats genseg2d"
).split()
SIZE, COLUMNS = 96, 8


def always(settings):
    """The same policy with every probability at 1, so that one draw shows it."""
    changes = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in ("p", "p_channel", "affine_p"):
            changes[field.name] = 1.0
        elif dataclasses.is_dataclass(value):
            changes[field.name] = always(value)
    return dataclasses.replace(settings, **changes)


def main() -> None:
    """Writes docs/images/augmentation.png."""
    source = LesionImages(4, (SIZE, SIZE), seed=3, shift=Shift(0.2, 0.1, 0.1))
    image = jnp.stack([source[i]["image"] for i in range(4)])
    label = jnp.stack([source[i]["label"] for i in range(4)])
    keys = jax.random.split(jax.random.key(5), 4)
    tiles = []
    for name in NAMES:
        policy = preset(name, (1.5, 1.5), classes=2)
        if not name.startswith("nnunet"):
            policy = always(policy)
        moved, soft = jax.jit(policy)(keys, image, label)
        lesion = np.asarray(soft[..., 1] if soft.ndim == 4 else soft == 1, np.float32)
        grey = np.clip((np.asarray(moved)[..., 0] + 1.5) / 4.5, 0, 1)[..., None].repeat(3, -1)
        colour = np.array([0.95, 0.35, 0.1])
        shown = grey + 0.55 * lesion[..., None] * (colour - grey)
        tile = Image.fromarray((np.concatenate(shown[:2], 0) * 255).astype(np.uint8))
        ImageDraw.Draw(tile).text((3, 1), name, fill="white")
        tiles.append(np.asarray(tile))
    rows = [np.concatenate(tiles[i : i + COLUMNS], 1) for i in range(0, len(tiles), COLUMNS)]
    path = pathlib.Path(__file__).parents[1] / "images" / "augmentation.png"
    Image.fromarray(np.concatenate(rows)).quantize(48).save(path, optimize=True)


if __name__ == "__main__":
    main()
