"""Whole volumes by models of 2D images: slice by slice, or hemisphere by hemisphere, and joined.

A model of hemispheres (`data.hemispheres`) sees axial slices of either side, scaled as in its
training. Slices with any brain are shown, also those with less than its training had; outside the
brain there is background.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.data.hemispheres import halves, hemisphere_settings, scaled_brain
from jaxmedgen.data.image_slices import thick_axis
from jaxmedgen.data.label_images import tissue_image
from jaxmedgen.data.label_map import remap
from jaxmedgen.data.preprocess import (
    Preprocessing,
    invert_image,
    invert_label,
    invert_to_label,
)
from jaxmedgen.data.regrid import GridMap
from jaxmedgen.experiments.evaluation import Flips, Predictor, mean_of_mirrored
from jaxmedgen.experiments.runs import TrainedRun
from jaxmedgen.systems.base import CanTranslate, HasAtlas, PlayerVariables

Show = Callable[[Float[np.ndarray, "*s c"], int], Float[np.ndarray, "*s k"]]
"""What a model makes of one image; the number (0 or 1) is that of the side of a hemisphere."""


def segment(
    run: TrainedRun,
    predict: Predictor,
    variables: PlayerVariables,
    image: Float[np.ndarray, "*s c"],
    spacing: tuple[float, ...],
    *,
    flips: Flips = "",
) -> Int[np.ndarray, "*s"]:
    """The label map of a scan on its own grid.

    Args:
        run: trained; of images with as many axes as the scan, of its slices, or of hemispheres.
        predict: of the run.
        variables: of the run.
        image: the scan as it is in its file, RAS+.
        spacing: mm an axis.
        flips: averages ``logits`` or ``probabilities`` over mirroring left-right.

    Raises:
        ValueError: a scan that does not fit, or a volume without a brain.
    """

    def show(picture, side=0):
        return predict.probabilities(variables, picture, flips="" if run.origin else flips)

    if run.origin is not None:
        shown, brain, _, grid = _brain(run, image, spacing)
        probabilities = _both_sides(shown, brain, show)
        if flips:
            mirrored = _both_sides(shown[::-1], brain[::-1], show)
            probabilities = mean_of_mirrored(probabilities, mirrored[::-1], flips)
        background = np.eye(probabilities.shape[-1], dtype=np.float32)[0]
        return invert_to_label(np.where(brain[..., None], probabilities, background), grid)

    def one(picture, spacing):
        seen, grid = _prepared(run, picture, spacing)
        return invert_to_label(show(seen), grid)

    if image.ndim - 1 == len(run.info.spacing):
        return one(image, spacing)
    return _slices(run, image, spacing, one, np.zeros(image.shape[:-1], np.int32))


def translate(
    run: TrainedRun,
    variables: PlayerVariables,
    image: Float[np.ndarray, "*s c"],
    spacing: tuple[float, ...],
    target: str,
) -> Float[np.ndarray, "*s c"]:
    """A scan as it would be in another domain, on its own grid.

    Of hemispheres the result has the scan's intensities (the model's own where bias fields are
    corrected), and around the brain it is the scan. Of other runs it has the intensities that the
    model sees.

    Args:
        run: trained, see `segment`.
        variables: of the run.
        image: the scan as it is in its file, RAS+.
        spacing: mm an axis.
        target: one of the system's ``domain_names``.

    Raises:
        ValueError: the system does not translate, to that domain or at all.
    """
    system = run.system
    if not isinstance(system, CanTranslate):
        raise ValueError(f"{run.config.system} does not translate: leave out --translate")
    if target not in system.domain_names:
        raise ValueError(f"--translate {target}: choose one of {', '.join(system.domain_names)}")
    move = jax.jit(lambda key, x: system.translate(variables, key, x, target))

    def show(picture, side=0):
        keys = jax.random.fold_in(jax.random.key(0), side)[None]  # one look for a whole side
        return np.asarray(move(keys, jnp.asarray(picture)[None])[0], np.float32)

    if run.origin is not None:
        shown, brain, scale, grid = _brain(run, image, spacing)
        shift, width = scale or (np.zeros(()), np.ones(()))
        made = _both_sides(shown, brain, show)
        made = np.where(brain[..., None], made, shown) * width + shift
        made = invert_image(made.astype(np.float32), grid)
        inside = invert_label(brain.astype(np.int32), grid)[..., None] > 0
        return np.where(inside, made, image if scale else 0.0).astype(np.float32)

    def one(picture, spacing):
        settings = _uncut(run.preprocessing, spacing, image=picture)
        record, grid = settings.apply(spacing, image=picture)
        return invert_image(show(record["image"]), grid)

    if image.ndim - 1 == len(run.info.spacing):
        return one(image, spacing)
    return _slices(run, image, spacing, one, np.zeros(image.shape, np.float32))


def _brain(
    run: TrainedRun, image: np.ndarray, spacing: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray] | None, GridMap]:
    """A scan on the grid that slices are cut from, its brain, scale and the way back."""
    prepared: Preprocessing = run.origin.preprocessing
    if image.ndim - 1 != 3:
        raise ValueError("a run of hemispheres takes volumes, this scan is a single slice")
    record, grid = _uncut(prepared, spacing, image=image).apply(spacing, image=image)
    settings = hemisphere_settings(run.config.data)
    shown, brain, scale = scaled_brain(np.asarray(record["image"]), settings)
    return shown, brain, scale, grid


def _both_sides(shown: np.ndarray, brain: np.ndarray, show: Show) -> np.ndarray:
    """What is made of every hemisphere of every slice, joined; a shared middle is averaged."""
    found: np.ndarray | None = None
    for side, columns in enumerate(halves(shown.shape[0])):
        for z in range(shown.shape[2]):
            if not brain[columns, :, z].any():
                continue
            made = show(np.ascontiguousarray(shown[columns, :, z].swapaxes(0, 1)), side)
            if found is None:
                found = np.zeros((*shown.shape[:-1], made.shape[-1]), np.float32)
            found[columns, :, z] += made.swapaxes(0, 1)
    if shown.shape[0] % 2:
        found[shown.shape[0] // 2] /= 2
    return found


def _slices(run, image, spacing, one, found):
    """`found`, filled slice by slice along the thickest axis; constant slices stay as they are."""
    if (len(run.info.spacing), image.ndim - 1) != (2, 3):
        raise ValueError(
            f"the run sees {len(run.info.spacing)} axes, the scan has {image.ndim - 1}"
        )
    axis = thick_axis(spacing)
    within = tuple(s for k, s in enumerate(spacing) if k != axis)
    cut, parts = np.moveaxis(image, axis, 0), np.moveaxis(found, axis, 0)
    for number, picture in enumerate(cut):
        if np.ptp(picture, axis=(0, 1)).min() > 0:
            parts[number] = one(np.ascontiguousarray(picture), within)
    return found


def _prepared(
    run: TrainedRun, image: Float[np.ndarray, "*s c"], spacing: tuple[float, ...]
) -> tuple[Float[np.ndarray, "*t k"], GridMap]:
    """What the network sees of a scan (RAS+), and the map to its grid."""

    def apply(**given):
        settings = run.preprocessing
        if not isinstance(run.system, HasAtlas):
            # But an atlas lies on one grid, in whose middle subjects are.
            settings = _uncut(settings, spacing, **given)
        return settings.apply(spacing, **given)

    if not getattr(run.system, "images_of_labels", False):
        record, grid = apply(image=image)
        return record["image"], grid
    label = image[..., 0].astype(np.int32)
    if run.label_map is not None:
        label = remap(label, run.label_map)
    record, grid = apply(label=label)
    return tissue_image(run.merged(record["label"]), run.info.num_classes), grid


def _uncut(
    settings: Preprocessing,
    spacing: tuple[float, ...],
    image: Float[np.ndarray, "*s c"] | None = None,
    label: Int[np.ndarray, "*s"] | None = None,
) -> Preprocessing:
    """Settings whose shape is at least the training's and cuts nothing away of this scan.

    A smaller scan is padded as in training: networks answer other margins otherwise, far into the
    scan. A larger one is seen to its ends.
    """
    free = dataclasses.replace(settings, shape=None)
    needed = free.grid_of(spacing, image, label).new_shape
    if settings.shape is None or len(settings.shape) != len(needed):  # slices of such a volume
        return free
    return dataclasses.replace(settings, shape=tuple(map(max, needed, settings.shape)))
