"""Labelled scans that a system makes, as NIfTI files and a picture."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxmedgen.data.build import Sources
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.pipeline import SampleStream
from jaxmedgen.report.pictures import montage, save_png, three_planes
from jaxmedgen.systems.base import CanDeform, CanSample
from jaxmedgen.types import Variables

_GROUP = 8
"""Subjects that are deformed at a time."""


def write_samples(
    config: ConfigDict,
    sources: Sources,
    system: CanSample,
    variables: dict[str, Variables],
    output: pathlib.Path,
    count: int,
    seed: int,
) -> None:
    """Synthetic scans of the training label maps: ``images/``, ``labels/``, ``samples.png``.

    Raises:
        ValueError: this configuration makes no images.
    """
    draw = jax.jit(lambda keys, label: system.sample(variables, keys, label))
    pictures = []
    stream = SampleStream(sources.train, seed, tuple(config.patch_size) or None)
    for number in range(count):
        label = jnp.asarray(stream[number]["label"])[None]
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), 1)
        image, made = (np.asarray(a[0]) for a in draw(keys, label))
        pictures.append(_write(output, number, image, made, sources.info.spacing))
    save_png(output / "samples.png", montage(pictures[:8], columns=2))


def write_deformed(
    sources: Sources,
    system: CanDeform,
    variables: dict[str, Variables],
    output: pathlib.Path,
    count: int,
    seed: int,
) -> None:
    """Training subjects deformed the way their population varies: files as `write_samples`.

    Raises:
        ValueError: subjects without a label map.
    """
    if "label" not in sources.train[0]:
        raise ValueError("the training images have no label maps: there is nothing to move along")
    deform = jax.jit(lambda keys, image, label: system.deform(variables, keys, image, label))
    stream, pictures = SampleStream(sources.train, seed), []
    size = min(_GROUP, len(sources.train))
    for start in range(0, count, size):
        records = [stream[start + i] for i in range(size)]
        image, label = (jnp.stack([jnp.asarray(r[k]) for r in records]) for k in ("image", "label"))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), start), size)
        made = map(np.asarray, deform(keys, image, label))
        for number, (one, classes) in enumerate(zip(*made), start):
            if number < count:
                pictures.append(_write(output, number, one, classes, sources.info.spacing))
    save_png(output / "samples.png", montage(pictures[:8], columns=2))


def _write(output, number, image, label, spacing) -> np.ndarray:
    """One scan's files; returns its picture. Several channels are numbered as nnU-Net does."""
    affine = np.diag([*spacing, *[1.0] * (4 - len(spacing))])
    channels = image.shape[-1]
    for k in range(channels):
        end = "" if channels == 1 else f"_{k:04d}"
        write_volume(output / "images" / f"sample_{number:04d}{end}.nii.gz", image[..., k], affine)
    write_volume(output / "labels" / f"sample_{number:04d}.nii.gz", label.astype(np.uint8), affine)
    return three_planes(image, label, spacing=spacing)
