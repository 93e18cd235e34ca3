"""Shapes and images that a model with latent levels makes, as NIfTI files and a picture.

Methods: ``prior`` (draws; a level's name makes that level alone random), ``interpolation`` (between
two held-out subjects), ``uncertainty`` (mean and standard deviation of draws: of the posterior, or
of the prior given their images where subjects have images as conditions).
"""

import pathlib
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from jaxmedgen.data.build import Sources
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.experiments.remodelling import latent_files
from jaxmedgen.experiments.shape_generation import batch_of, draw_reported, interpolate, uncertainty
from jaxmedgen.experiments.shape_scores import image_rows
from jaxmedgen.nets.gaussian_heads import check_classes
from jaxmedgen.report.pictures import save_png
from jaxmedgen.systems.base import CanSampleVolume, PlayerVariables
from jaxmedgen.systems.latent import CanFollowGeodesics, CanGenerate, CanNavigate
from jaxmedgen.train.environment import write_json
from jaxmedgen.types import Batch

METHODS = ("prior", "interpolation", "uncertainty")
_COLUMNS = 8


def write_shapes(
    sources: Sources,
    system: CanGenerate,
    variables: PlayerVariables,
    output: pathlib.Path,
    count: int,
    seed: int,
    method: str = "",
    condition: str = "",
) -> dict[str, object]:
    """Writes ``images/``, ``labels/`` of masks, ``samples.png`` and ``samples.json``.

    Args:
        sources: conditions are those of held-out subjects in turn, unless one is given.
        system: the model.
        variables: of its trained state.
        output: folder.
        count: samples; points of an interpolation.
        seed: of the draws.
        method: one of `METHODS` or a latent level; ``prior`` by default.
        condition: a class, or numbers separated by commas, for all samples.

    Returns:
        What ``samples.json`` tells of the draws: numbers of a system that `CanReport`, mean and
        worst of them.

    Raises:
        ValueError: an unknown method or level, a condition that the model does not have.
    """
    method = method or "prior"
    known = (*METHODS, *system.levels)
    if method not in known:
        known = (*known, *(latent_files.METHODS if isinstance(system, CanNavigate) else ()))
        raise ValueError(f"--method {method}: choose one of {', '.join(known)}")
    told: dict[str, object] = {}
    held = sources.test if len(sources.test) else sources.train
    rng = np.random.default_rng(seed)
    if method == "interpolation":
        pair = _pair(system, held, rng, condition)
        rows = {"image": interpolate(system, variables, pair, count)}
    else:
        chosen = batch_of(held, rng.permutation(np.arange(count) % len(held)), system)
        batch = conditioned(system, chosen, condition)
        if method == "uncertainty":
            drawn = draws_of(system)
            mean, deviation = uncertainty(system, variables, batch, seed, source=drawn)
            rows = {"image": mean, "deviation": deviation}
            told["draws"] = drawn
        else:
            level = None if method == "prior" else method
            images, report = draw_reported(system, variables, batch, seed, level)
            rows = {"image": images}
            for name, values in report.items():
                worst = values.min() if name == "acceptance" else values.max()
                told[name] = {"mean": float(values.mean()), "worst": float(worst)}
            prior = getattr(getattr(system, "sampling", None), "prior", None)
            told |= {"sampler": prior} if prior else {}
    spacing = sources.info.spacing
    affine = np.diag([*spacing, *[1.0] * (4 - len(spacing))])
    for name, images in rows.items():
        for number, image in enumerate(images):
            image, _ = _parts(system, image)
            if not image.shape[-1]:
                continue
            path = output / f"{name}s" / f"sample_{number:05d}.nii.gz"
            write_volume(path, image[..., 0] if image.shape[-1] == 1 else image, affine)
    if sources.info.num_classes > 1:
        for number, image in enumerate(rows["image"]):
            _, label = _parts(system, image)
            path = output / "labels" / f"sample_{number:05d}.nii.gz"
            write_volume(path, label.astype(np.uint8), affine)
    shown = [x[i : i + _COLUMNS] for x in rows.values() for i in range(0, len(x), _COLUMNS)]
    shown = [x for x in shown if len(x) == len(shown[0])]
    save_png(output / "samples.png", image_rows(shown))
    write_json(
        output / "samples.json",
        {"method": method, "condition": condition, "seed": seed, "count": count, **told},
    )
    return told


def _pair(system, held, rng, condition) -> Batch:
    """Two held-out subjects; of the condition where each one has a latent space of its own."""
    numbers = np.arange(len(held))
    if condition and isinstance(system, CanFollowGeodesics):
        name = system.condition_keys[0] if system.condition_keys else ""
        wanted = conditioned(system, batch_of(held, [0]), condition)
        kinds = np.array([int(held[int(i)][name]) for i in numbers])
        numbers = numbers[kinds == int(wanted[name][0])]
    if len(numbers) < 2:
        raise ValueError(
            f"interpolation needs two held-out subjects, there are {len(numbers)}"
            + (f" of --condition {condition}" if condition else "")
        )
    return conditioned(system, batch_of(held, rng.choice(numbers, 2, False), system), condition)


def draws_of(system: CanGenerate) -> str:
    """Whose draws show a model's uncertainty: those of the ``posterior`` or of the ``prior``.

    A model that is conditioned on images (planes, say) says what they leave open. Its posterior has
    seen the very volume that is to be found.
    """
    shapes = getattr(system, "condition_shapes", ())
    images = isinstance(system, CanSampleVolume) or any(len(shape) > 1 for shape in shapes)
    return "prior" if images else "posterior"


def conditioned(system: CanGenerate, batch: Batch, condition: str) -> Batch:
    """The batch with one condition for all of its samples.

    Args:
        system: the model.
        batch: records.
        condition: a class, or numbers separated by commas; empty leaves the batch alone.

    Raises:
        ValueError: the model has no such condition, or the value does not fit it.
    """
    if not condition:
        return batch
    names = getattr(system, "condition_keys", ())
    if not names:
        raise ValueError(f"--condition {condition}: the model has no condition (arm=cvae has)")
    name = names[0]
    like = batch[name]
    try:
        values = np.array([float(part) for part in condition.split(",")])
    except ValueError:
        raise ValueError(
            f"--condition {condition}: give a class or numbers such as 1,0.5"
        ) from None
    size = like[0].size
    if values.size != size or like.ndim > 2:
        raise ValueError(
            f"--condition {condition}: '{name}' has {size} numbers"
            + (" a sample; it is an image, taken from held-out subjects" if like.ndim > 2 else "")
        )
    if not jnp.issubdtype(like.dtype, jnp.floating):
        classes = _classes(system)
        if values[0] != int(values[0]):
            raise ValueError(f"--condition {condition}: '{name}' is a class: give a whole number")
        check_classes(values.astype(np.int64), classes, f"--condition: '{name}'")
    wide = np.broadcast_to(values.reshape(like.shape[1:]), like.shape)
    made: Mapping = {**batch, name: jnp.asarray(wide, like.dtype)}
    return made


def _parts(system, image):
    """Image and label map of one sample; a model of both at once has channels for each."""
    content = getattr(system, "content", None)
    if content is not None and content.kind != "image":
        kept, label = content.split(jnp.asarray(image[None]))
        return np.asarray(kept[0]), np.asarray(label[0])
    return image, np.where(image.max(-1) > 0.5, image.argmax(-1) + 1, 0)


def _classes(system) -> int:
    if hasattr(system, "kinds"):
        return system.kinds
    return next(each.classes for each in system.net.conditions if each.kind == "class")
