"""Two-dimensional planes in files to volumes, uncertainty maps and meshes in files."""

import pathlib

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from jaxmedgen.data.meshes import surface_mesh, write_mesh
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.planes import VIEWS, find_planes, read_mask, read_planes
from jaxmedgen.data.postprocess import fill_holes
from jaxmedgen.data.untrusted import DataError
from jaxmedgen.experiments.reconstruction import pictures
from jaxmedgen.experiments.reconstruction.scoring import (
    SAMPLES,
    Builder,
    VolumeScore,
    score_volume,
    to_mask,
)
from jaxmedgen.experiments.reconstruction.tables import published_layout, write_scores
from jaxmedgen.experiments.runs import TrainedRun
from jaxmedgen.metrics.head import head_biometry
from jaxmedgen.metrics.uncertainty import uncertainty_map
from jaxmedgen.report.pictures import montage, save_png
from jaxmedgen.train.environment import write_json

_FILLED = np.float32(0.51)
"""Probability of voxels that were filled: just inside the surface."""


def reconstruct_files(
    run: TrainedRun,
    source: pathlib.Path,
    output: pathlib.Path,
    *,
    reference: pathlib.Path | None = None,
    kind: str = "last",
    samples: int = SAMPLES,
    holes: bool = False,
    console: Console,
) -> dict[str, VolumeScore]:
    """Builds the volume of every case of a folder of planes.

    Writes ``NAME.nii.gz`` (mask), ``NAME_probability.nii.gz``, ``NAME_uncertainty.nii.gz`` (models
    that draw samples), ``NAME.stl``, ``NAME.vtk`` (with the uncertainty), ``NAME.png`` and
    ``biometry.json`` (mm and millilitres, central 90 % of the samples). The volumes lie in a field
    of view of their own: planes that are not registered say nothing about a place in the scanner.

    Args:
        run: a trained run.
        source: folder with ``NAME_axial.nii.gz``, ``NAME_sagittal.nii.gz``,
            ``NAME_coronal.nii.gz``; any of a case may be missing, but not all that the model knows.
        output: folder.
        reference: folder of 3D label files of the cases' names, to score with.
        kind: checkpoint, ``last`` or ``best``.
        samples: drawn for the uncertainty.
        holes: fill what the mask encloses, in mask and mesh.
        console: where to print; missing views are named there.

    Raises:
        DataError: broken files, or a case whose planes the model was not trained for.
    """
    cases = find_planes(source)
    known = {VIEWS[view] for view in run.system.views}
    for name, paths in cases.items():
        if not known & set(paths):
            raise DataError(
                f"{name}: has only {', '.join(sorted(paths))}, but this model was trained with "
                f"{', '.join(sorted(known))}: give one of these views"
            )
        if not run.system.handles([VIEWS.index(view) for view in paths]):
            missing = [view for view in VIEWS if view in known and view not in paths]
            raise DataError(
                f"{name}: no {', no '.join(missing)} plane, and this model was never trained to do "
                "without: give it, or train arm=hcvae,dropout=any for planes in any combination"
            )
    variables, step = run.variables(kind)
    builder, size = Builder(run.system, variables), int(run.config.data.shape[0])
    spacing = run.info.spacing
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(size - 1) / 2 * np.asarray(spacing)
    output.mkdir(parents=True, exist_ok=True)
    sizes, scores = {}, {}
    for number, (name, paths) in enumerate(cases.items(), start=1):
        planes, available = read_planes(paths, size)
        volume = builder.volumes(planes[None], available[None])[0]
        mask = to_mask(volume)
        if holes:
            mask = fill_holes(mask.astype(np.int32)) > 0
            volume = np.where(mask & (volume <= 0.5), _FILLED, volume)
        write_volume(output / f"{name}.nii.gz", mask.astype(np.uint8), affine)
        write_volume(output / f"{name}_probability.nii.gz", volume, affine)
        spread, drawn = None, None
        if builder.samples and samples > 1:
            drawn = builder.draws(planes, available, samples, seed=number)
            spread = uncertainty_map(drawn)
            write_volume(output / f"{name}_uncertainty.nii.gz", spread, affine)
        sizes[name] = _sizes(mask, drawn, spacing)
        if mask.any():
            mesh = surface_mesh(np.where(mask, volume, np.minimum(volume, 0.49)), affine, 0.5,
                                spread)  # fmt: skip
            for suffix in (".stl", ".vtk"):
                write_mesh(output / f"{name}{suffix}", mesh)
        shown = [pictures.plane_row(planes, available)]
        shown.append(pictures.surface(volume, spacing, spread))
        save_png(output / f"{name}.png", montage(shown, columns=1))
        console.print(f"{number}/{len(cases)}  {_what(name, paths, known)}", highlight=False)
        if not mask.any():
            console.print(f"  {name}: nothing was reconstructed, there is no mesh", highlight=False)
        if reference is not None:
            path = _reference(reference, name)
            if path is not None:
                scores[name] = score_volume(name, mask, read_mask(path, size) > 0, spacing)
    write_json(output / "biometry.json", sizes)
    if scores:
        write_scores({(): tuple(scores.values())}, output / "evaluation", step=step)
        table = published_layout({"this run": {(): tuple(scores.values())}}, [()])
        console.print(Markdown(table))
    return scores


def _what(name: str, paths: dict[str, pathlib.Path], known: set[str]) -> str:
    """One line: what a volume was built from and what was missing."""
    used = [view for view in VIEWS if view in paths and view in known]
    missing = [view for view in VIEWS if view not in paths and view in known]
    ignored = [view for view in VIEWS if view in paths and view not in known]
    text = f"{name}: built from {', '.join(used)}"
    if missing:
        text += f"; missing: {', '.join(missing)}"
    if ignored:
        text += f"; not known to this model and left out: {', '.join(ignored)}"
    return text


def _sizes(mask, drawn, spacing) -> dict[str, dict[str, object]]:
    """Biometry of a mask with the central 90 % of its samples'."""
    found = head_biometry(mask, spacing)
    sizes = {name: {"value": _plain(value)} for name, value in found._asdict().items()}
    if drawn is not None:
        each = [head_biometry(to_mask(volume), spacing) for volume in drawn]
        for name, entry in sizes.items():
            values = [getattr(one, name) for one in each]
            if not np.all(np.isnan(values)):
                entry["central_90"] = [float(x) for x in np.nanquantile(values, (0.05, 0.95))]
    return sizes


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _reference(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    if folder.is_file():
        return folder
    return next((p for p in sorted(folder.glob(f"{name}.*")) if ".nii" in p.name), None)
