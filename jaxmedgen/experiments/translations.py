"""Images of one domain as a system shows them in others: NIfTI files and a picture."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.data.build import Sources
from jaxmedgen.data.grid_affines import affine_of
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.pipeline import SampleStream
from jaxmedgen.report.pictures import montage, save_png, three_planes
from jaxmedgen.systems.base import CanPredict, CanTranslate
from jaxmedgen.types import Variables


def write_translated(
    sources: Sources,
    system: CanTranslate,
    variables: dict[str, Variables],
    output: pathlib.Path,
    count: int,
    seed: int,
) -> None:
    """Test subjects in every domain: ``DOMAIN/images/``, ``DOMAIN/labels/``, ``samples.png``.

    Labels are the system's own segmentation of its images, if it segments. A row of the picture
    shows an image and its translations; where the data set has images without a finding beside
    those with, they have rows of their own.

    Args:
        sources: of which the test subjects are translated, or training subjects where there are no
            others.
        system: what translates.
        variables: by player.
        output: folder.
        count: number of images.
        seed: of their choice and of what they leave open.
    """
    source = sources.test if len(sources.test) else sources.train
    stream, rows = SampleStream(source, seed), []
    move = jax.jit(system.translate, static_argnums=3)
    segment = jax.jit(system.predict) if isinstance(system, CanPredict) else None
    spacing = sources.info.spacing
    images, affines = [], []
    for number in range(count):
        record = stream[number // 2 if "absent" in stream[0] else number]
        own = number % 2 == 0 or "absent" not in record
        images.append(np.asarray(record["image" if own else "absent"], np.float32))
        affines.append(affine_of(source, int(record["case"])))
    for number, image in enumerate(images):
        row = [three_planes(image, spacing=spacing)]
        for place, target in enumerate(system.domain_names):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), number), place)
            made = move(variables, key[None], jnp.asarray(image)[None], target)
            label = None
            if segment is not None:
                label = np.asarray(segment(variables, made)[0]).argmax(-1).astype(np.uint8)
            made = np.asarray(made[0])
            _write(output / target, number, made, label, affines[number])
            row.append(three_planes(made, spacing=spacing))
        rows += row
    save_png(output / "samples.png", montage(rows, columns=1 + len(system.domain_names)))


def _write(folder, number, image, label, affine) -> None:
    for k in range(image.shape[-1]):
        end = "" if image.shape[-1] == 1 else f"_{k:04d}"
        write_volume(folder / "images" / f"sample_{number:05d}{end}.nii.gz", image[..., k], affine)
    if label is not None:
        write_volume(folder / "labels" / f"sample_{number:05d}.nii.gz", label, affine)
