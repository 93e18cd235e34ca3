"""Pictures of label-conditional synthesis: arms beside each other, paths between styles, stacks."""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.data.phantoms.label_stacks import label_stacks
from jaxmedgen.experiments.reproductions.cardiac.judges import Slices
from jaxmedgen.experiments.reproductions.cardiac.models import Model
from jaxmedgen.report.pictures import Rgb, montage

_SCALE = 2
_STEPS = 7


def rows(images: Mapping[str, np.ndarray], numbers: Iterable[int]) -> Rgb:
    """A row a name: images in [-1, 1] ``[n, h, w, 1]`` or label maps ``[n, h, w]``."""
    numbers = list(numbers)
    tiles = [_tile(stack[i]) for stack in images.values() for i in numbers]
    return montage(tiles, columns=len(numbers))


def of_styles(model: Model, real: Slices) -> dict[str, Rgb]:
    """One anatomy in styles between two vendors; a stack of slices in three drawn styles."""
    first, last = (np.flatnonzero(real.vendor == v)[:3] for v in sorted(set(real.vendor)))
    label = jnp.asarray(real.label[first])
    ends = [jnp.asarray(real.image[numbers]) for numbers in (first, last)]
    places = jnp.linspace(0, 1, _STEPS)
    # Images are arguments: as constants, their sorting would be folded while compiling.
    path = jax.jit(model.system.interpolate)(model.variables, label, *ends, places)
    between = np.asarray(path)
    tiles = []
    for i in range(len(first)):
        tiles += [_tile(np.asarray(ends[0][i]))]
        tiles += [_tile(image) for image in between[:, i]]
        tiles += [_tile(np.asarray(ends[1][i]))]
    classes = 4
    ((stack, _),) = label_stacks(1, real.label.shape[1:], classes, seed=0)
    keys = jax.random.split(jax.random.key(1), 3)
    same = jnp.broadcast_to(jnp.asarray(stack), (3, *stack.shape))
    drawn = np.asarray(jax.jit(model.system.sample)(model.variables, keys, same)[0])
    chosen = np.linspace(0, len(stack) - 1, 8).astype(int)
    planes = [_tile(stack[k]) for k in chosen]
    planes += [_tile(volume[k]) for volume in drawn for k in chosen]
    return {
        "interpolation": montage(tiles, columns=_STEPS + 2),
        "stack": montage(planes, columns=len(chosen)),
    }


def _tile(image: np.ndarray) -> np.ndarray:
    """Grey levels of one picture, enlarged."""
    if image.ndim == 2:
        grey = image.astype(np.float32) * (255 / max(int(image.max()), 1))
    else:
        grey = (np.clip(image[..., 0], -1, 1) + 1) * 127.5
    return np.round(grey).astype(np.uint8).repeat(_SCALE, 0).repeat(_SCALE, 1)
