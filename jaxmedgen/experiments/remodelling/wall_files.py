"""Files of shapes and of their walls: NIfTI, pictures in mm, a table of AHA segments."""

import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.atomic import write_table
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.experiments.remodelling import pictures
from jaxmedgen.metrics import ventricle_wall as wall
from jaxmedgen.report.pictures import save_png


def write_walls(
    output: pathlib.Path, shapes: Mapping[str, Float[np.ndarray, "*s c"]], info: DatasetInfo
) -> dict[str, object]:
    """``walls_PHASE.png``, ``difference_PHASE.png`` (last less first) and ``segments.csv`` in mm.

    Nothing of shapes without a cavity.

    Args:
        output: folder.
        shapes: probability maps of ventricles by name.
        info: channels and spacing.
    """
    rows, missing = [], []
    for c, phase in enumerate(info.channel_names):
        walls = {}
        for name, shape in shapes.items():
            try:
                walls[name] = wall.wall_surface(shape[..., c], info.spacing)
            except ValueError:
                missing.append(f"{name} {phase}".strip())
        for name, surface in walls.items():
            means = enumerate(wall.segment_means(surface), start=1)
            rows.append(
                {"shape": name, "phase": phase} | {f"AHA{k}": round(float(v), 2) for k, v in means}
            )
        if not walls:
            continue
        volumes = [shapes[name][..., c] for name in walls]
        save_png(output / f"walls_{phase}.png", pictures.thickness_views(volumes, info.spacing))
        ends = list(walls)
        if len(ends) > 1:
            first, last = (wall.thickness_map(walls[name]) for name in (ends[0], ends[-1]))
            title = f"{ends[-1]} less {ends[0]}"
            picture = pictures.bulls_eyes({title: last - first})
            save_png(output / f"difference_{phase}.png", picture)
    if rows:
        write_table(output / "segments.csv", rows)
    return {"without a wall": missing} if missing else {}


def write_shape(folder: pathlib.Path, name: str, shape, info: DatasetInfo) -> None:
    """A file a channel: ``NAME_ED.nii.gz``, or ``NAME.nii.gz`` of one, as `ShapeFolder` reads them.

    Args:
        folder: where.
        name: of the case.
        shape: ``[*s, c]``.
        info: channels and spacing.
    """
    affine = np.diag([*info.spacing, *[1.0] * (4 - len(info.spacing))])
    for c, phase in enumerate(info.channel_names):
        end = f"_{phase}" if len(info.channel_names) > 1 else ""
        write_volume(folder / f"{name}{end}.nii.gz", shape[..., c], affine)
