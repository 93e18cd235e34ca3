"""Pictures of what a generative system makes while it trains."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.data.sources import Source
from jaxmedgen.report.pictures import Rgb, montage, save_png
from jaxmedgen.systems.base import CanShow, evaluation_variables
from jaxmedgen.train.state import TrainState, sample_keys

_SHOWN = 6


def picture_writer(
    system: CanShow, config: Any, train: Source, folder: pathlib.Path
) -> Callable[[TrainState, int], dict[str, Rgb]]:
    """A function for `train.loop.fit` that writes ``FOLDER/step_STEP.png`` and returns pictures.

    It shows the same training subjects with the same noise every time, with averaged weights where
    there are any: one row a name of `CanShow.show`, volumes by their middle slice.

    Args:
        system: what is trained.
        config: of its training.
        train: training subjects.
        folder: where the pictures go.
    """
    stream = training_stream(
        train,
        batch_size=min(_SHOWN, config.batch_size),
        seed=config.seed,
        patch_size=tuple(config.patch_size) or None,
        num_threads=0,
    )
    batch = jax.tree.map(jnp.asarray, next(stream))
    keys = sample_keys(jax.random.key(config.seed), 0, batch["index"])

    @jax.jit
    def draw(variables, keys, batch):
        prepared = {**system.prepare(batch, keys), "index": batch["index"]}
        return system.show(variables, keys, prepared)

    def write(state: TrainState, step: int) -> dict[str, Rgb]:
        shown = jax.tree.map(np.asarray, draw(evaluation_variables(state), keys, batch))
        rows = {
            name: montage([_plane(image) for image in images], columns=len(images))
            for name, images in shown.items()
        }
        save_png(folder / f"step_{step:06d}.png", montage(list(rows.values()), columns=1))
        return rows

    return write


def _plane(image: np.ndarray) -> np.ndarray:
    """Grey ``[h, w]`` of an image ``[*s, c]``: first channel, middle slice."""
    plane = image[..., 0].astype(np.float32)
    while plane.ndim > 2:
        plane = plane[plane.shape[0] // 2]
    return plane
