"""Images of label files by a trained run: NIfTI in, NIfTI out on the files' own grids."""

import json
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import Float

from jaxmedgen.data import nnunet
from jaxmedgen.data.image_slices import thick_axis
from jaxmedgen.data.nifti import is_volume_file, read_volume, stem, write_like
from jaxmedgen.experiments.rendering import compiled, draw_between, draw_image
from jaxmedgen.experiments.runs import TrainedRun
from jaxmedgen.experiments.samples import Layout
from jaxmedgen.experiments.synthetic.manifest import SetLog
from jaxmedgen.experiments.written_labels import (
    LabelNote,
    axis_in_file,
    axis_in_ras,
    read_notes,
)
from jaxmedgen.report.pictures import montage, save_png, three_planes
from jaxmedgen.systems.base import CanInterpolateStyles


def render_files(
    run: TrainedRun,
    labels: pathlib.Path,
    output: pathlib.Path,
    *,
    style: pathlib.Path | None = None,
    last_style: pathlib.Path | None = None,
    steps: int = 2,
    by_place: bool = False,
    vendors: tuple[str, ...] = (),
    seed: int = 0,
    kind: str = "last",
    layout: Layout = "plain",
    slice_axis: int | None = None,
) -> int:
    """Images of label files on the files' own grids: ``images/``, ``labels/``, ``samples.png``.

    ``manifest.json`` says which label file each is of and in which style (`synthetic.manifest`).
    Labels are written as classes of the run.

    Args:
        run: trained; its system samples from label maps.
        labels: file, or folder of files, with the values of the training data's files, or classes
            where this library wrote them (`written_labels`).
        output: folder.
        style: scan whose style is taken (its middle slice for a system of slices); otherwise each
            file has a style that is drawn.
        last_style: with `style`, scan whose style is that of the last of `steps` images a file
            (``NAME_t00``, ``NAME_t01``, ...), on the way from the first.
        steps: of that.
        by_place: with `last_style`, one image a file instead: in the style at the place t of its
            label map on the path that it was made on, which ``records.json`` beside the folder of
            label files says (`label_files.write_subjects`).
        vendors: styles by their names, instead of a scan's. Several give an image each of the same
            labels (``NAME_VENDOR``).
        seed: of the styles.
        kind: checkpoint, ``last`` or ``best``.
        layout: ``nnunet`` writes ``imagesTr/``, ``labelsTr/`` and ``dataset.json`` instead.
        slice_axis: axis of the files across their slices, 0 to 2, for a system of slices; by
            default what is known of files that this library wrote, otherwise their thickest.

    Returns:
        Number of images.

    Raises:
        DataError: a file that cannot be read.
        ValueError: no label files, values without a class, no place of a file, or a system without
            that ability.
    """
    files = [labels]
    if labels.is_dir():
        files = sorted(p for p in labels.iterdir() if is_volume_file(p))
    if not files:
        raise ValueError(f"{labels} holds no NIfTI files: give label maps")
    variables = run.variables(kind)[0]
    names = vendors or ("",)
    draws = {v: compiled(run.system, variables, stylise=style is not None, vendor=v) for v in names}
    if last_style is not None and not isinstance(run.system, CanInterpolateStyles):
        raise ValueError(f"{run.config.system} has no styles between styles: leave out --to-style")
    rank = len(run.info.spacing)
    channels, pictures, log = len(run.info.channel_names), [], SetLog()
    places = _places(labels) if by_place else {}
    notes = read_notes(labels)
    reference, last = (
        None if s is None else _style(s, rank, channels) for s in (style, last_style)
    )
    for number, file in enumerate(files):
        volume = read_volume(file, label=True)
        note = notes.get(stem(file), LabelNote())
        label = run.remap(volume.array, note.class_names).astype(np.int32)
        if label.min() < 0 or label.max() >= run.info.num_classes:
            raise ValueError(
                f"{file} has values {label.min()} to {label.max()}, the run was trained on the "
                f"classes 0 to {run.info.num_classes - 1}: map them first"
            )
        axis = None
        if label.ndim == rank + 1:
            known = note.slice_axis if slice_axis is None else slice_axis
            axis = thick_axis(volume.spacing) if known is None else axis_in_ras(volume, known)
        key = jax.random.fold_in(jax.random.key(seed), number)
        if last is None:
            made = {}
            for name, draw in draws.items():
                image, label = draw_image(draw, key, label, axis, reference)
                made[f"_{name}" if len(draws) > 1 else ""] = image
        else:
            ends = (reference, last)
            if by_place and stem(file) not in places:
                raise ValueError(f"records.json beside {labels} has no place of {stem(file)}")
            way = np.array([places[stem(file)]]) if by_place else np.linspace(0, 1, steps)
            path = draw_between(run.system, variables, label, axis, ends, way)
            made = {"" if by_place else f"_t{k:02d}": image for k, image in enumerate(path)}
        for end, image in made.items():
            shown = end.removeprefix("_") or "".join(vendors) or f"random-{number}"
            if style is not None:
                shown = stem(style) + (f" to {stem(last_style)}{end}" if last is not None else "")
            cut = None if axis is None else axis_in_file(volume, axis)
            log.add(f"{stem(file)}{end}", stem(file), shown, image, label, cut)
            _write(output, f"{stem(file)}{end}", image, label, volume, layout)
            pictures.append(three_planes(image, label, spacing=volume.spacing))
    policy = "scan" if style is not None else ",".join(vendors) or "random"
    log.write(
        output,
        generator=run.config.system,
        deformation="none",
        style=policy,
        seed=seed,
        class_names=run.info.class_names,
    )
    if layout == "nnunet":
        nnunet.write_description(output, run.info, len(log))
    save_png(output / "samples.png", montage(pictures[:8], columns=2))
    return len(log)


def _write(output, name, image, label, volume, layout) -> None:
    """One image and its label map on the grid of a label file."""
    if layout == "nnunet":
        for k in range(image.shape[-1]):
            path = output / "imagesTr" / f"{name}_{k:04d}{nnunet.ENDING}"
            write_like(path, image[..., k], volume)
        write_like(output / "labelsTr" / f"{name}{nnunet.ENDING}", label, volume)
        return
    channels = image[..., 0] if image.shape[-1] == 1 else image
    write_like(output / "images" / f"{name}.nii.gz", channels, volume)
    write_like(output / "labels" / f"{name}.nii.gz", label, volume)


def _places(labels: pathlib.Path) -> Mapping[str, float]:
    """Place t of each label map on its path, by the records beside their folder."""
    path = (labels if labels.is_dir() else labels.parent).parent / "records.json"
    if not path.exists():
        raise ValueError(f"{path} is not there: it says where label maps lie on their path")
    return {record["name"]: float(record["t"]) for record in json.loads(path.read_text())}


def _style(path: pathlib.Path, rank: int, channels: int) -> Float[np.ndarray, "*s c"]:
    """A scan as a style image; a volume with its slices first, where slices are wanted."""
    volume = read_volume(path)
    array = np.asarray(volume.array, np.float32)
    if array.ndim == len(volume.spacing):
        array = array[..., None]
    if array.ndim - 1 == rank + 1:
        axis = thick_axis(volume.spacing)
        array = np.moveaxis(array, axis, 0)
    if array.ndim - 1 not in (rank, rank + 1) or array.shape[-1] != channels:
        raise ValueError(
            f"{path} has {array.ndim - 1} axes and {array.shape[-1]} channels, the run sees "
            f"{rank} and {channels}"
        )
    return array
