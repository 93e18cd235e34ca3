"""A folder of label maps with classes: ``CASE_ED.nii.gz``, ``CASE_ES.nii.gz`` and a table.

The table is ``classes.csv`` with the header ``case,class``; classes are numbers from 0 (healthy) or
names, and ``-`` leaves a case out. A folder of one organ has ``CASE.nii.gz`` alone. What is shown
is every value above 0, or what a label map file makes a class above 0 (the muscle of ACDC, whose
files have 1 right ventricle, 2 muscle, 3 left ventricle: ``{"muscle": [2]}``).

Masks are brought to one isotropic grid: a box of so many voxels about the centre of mass of the ED
mask, the same for both phases, along the axes of the ED file; class and other subjects have no part
in it. With a template the ED mask is aligned to it rigidly first, and ES goes with it. Arrays
should run along the long axis first, apex at index 0, the septum at the low end of the last axis,
if pictures and segments of the wall are to be right.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from jaxmedgen.data.label_map import remap
from jaxmedgen.data.nifti import Volume, is_volume_file, read_volume, stem
from jaxmedgen.data.rigid import rigid_alignment
from jaxmedgen.data.sources import DatasetInfo, Record
from jaxmedgen.data.untrusted import DataError

TABLE = "classes.csv"
PHASES = ("ED", "ES")
LEFT_OUT = "-"
_MOST_CUT = 0.02
"""Share of a mask that the box may cut off."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where masks are brought to.

    Attributes:
        shape: voxels of the box.
        spacing: mm a voxel; None takes the files', which must be isotropic and alike.
        template: ED label map that all are aligned to, or None.
    """

    shape: tuple[int, ...]
    spacing: float | int | None = None
    template: pathlib.Path | None = None


class ShapeFolder:
    """The subjects of a folder as a `Source`: ``image`` float32 ``[*s, c]`` in {0, 1}, ``target``.

    Everything is read, checked and brought to the grid when it is opened.
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        grid: Grid,
        class_names: Sequence[str] = (),
        label_map: Mapping[int, int] | None = None,
        labelled: bool = True,
    ):
        """Reads the folder.

        Args:
            folder: with label maps and `TABLE`.
            grid: that they are brought to.
            class_names: names that the table may use besides numbers; two classes without.
            label_map: file value -> class; above 0 is shown.
            labelled: False reads all files, without a table and without ``target``.

        Raises:
            DataError: the first thing that is wrong, with the file and the fix.
        """
        self._folder, self._label_map = pathlib.Path(folder), label_map
        names = tuple(class_names) or ("class 0", "class 1")
        files = self._files()
        classes = self._classes(names, set(files)) if labelled else dict.fromkeys(files, 0)
        self._labelled = labelled
        cases = [case for case in sorted(files) if classes[case] is not None]
        if not cases:
            raise DataError(f"{self._folder / TABLE}: leaves out every case; give classes")
        pairs = any(set(PHASES) & set(found) for found in files.values())
        phases = PHASES if pairs else ("",)
        spacing, template = grid.spacing, None
        self._masks, self._affines = [], []
        self._targets = [classes[case] for case in cases]
        for case in cases:
            volumes = [self._read(files[case], case, phase) for phase in phases]
            if spacing is None:
                spacing = _common_spacing(volumes[0], None)
            elif grid.spacing is None:
                _common_spacing(volumes[0], spacing)
            if grid.template is not None and template is None:
                template = self._placed([self._mask(grid.template)], grid, spacing)[0][0]
            masks, affine = self._placed(volumes, grid, spacing, template)
            self._masks.append(masks)
            self._affines.append(affine)
        self.info = DatasetInfo(
            class_names=names,
            channel_names=PHASES if pairs else ("shape",),
            spacing=(float(spacing),) * 3,
            case_names=tuple(cases),
        )

    def __len__(self) -> int:
        return len(self._masks)

    def target_of(self, index: int) -> int:
        """Class of a subject, a number."""
        return self._targets[index]

    def affine_of(self, index: int) -> Float[np.ndarray, "4 4"]:
        """From voxels of a subject's box to mm in its files' space."""
        return self._affines[index]

    def __getitem__(self, index: int) -> Record:
        image = np.stack(self._masks[index], -1).astype(np.float32)
        return {"image": image} | (
            {"target": np.int32(self._targets[index])} if self._labelled else {}
        )

    def _files(self) -> dict[str, dict[str, pathlib.Path]]:
        """File by case and phase."""
        if not self._folder.is_dir():
            raise DataError(f"{self._folder}: no such folder; check the path")
        found: dict[str, dict[str, pathlib.Path]] = {}
        for path in sorted(self._folder.iterdir()):
            if is_volume_file(path):
                case, _, phase = stem(path).rpartition("_")
                if phase not in PHASES or not case:
                    case, phase = stem(path), ""
                found.setdefault(case, {})[phase] = path
        if not found:
            raise DataError(f"{self._folder}: holds no label maps; give CASE_ED.nii.gz and so on")
        return found

    def _classes(self, names: Sequence[str], cases: set[str]) -> dict[str, int | None]:
        """Class by case; None for one that is left out."""
        path = self._folder / TABLE
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            if not {"case", "class"} <= set(reader.fieldnames or ()):
                raise DataError(f"{path}: has no header case,class; write it in the first line")
            rows = [(row["case"].strip(), (row["class"] or "").strip()) for row in reader]
        known = {str(k): k for k in range(len(names))} | {n: k for k, n in enumerate(names)}
        known[LEFT_OUT] = None
        classes: dict[str, int | None] = {}
        for case, text in rows:
            if case in classes:
                raise DataError(f"{path}: has two rows of case '{case}'; keep one")
            if text not in known:
                options = ", ".join(known)
                raise DataError(f"{path}: case '{case}' has class '{text}'; give one of {options}")
            if case not in cases and known[text] is not None:
                raise DataError(f"{path}: no file of case '{case}'; remove the row or add the file")
            classes[case] = known[text]
        for case in sorted(cases - set(classes)):
            raise DataError(
                f"{path}: has no class for case '{case}'; add a row ({LEFT_OUT} leaves it out)"
            )
        return classes

    def _read(self, files: Mapping[str, pathlib.Path], case: str, phase: str) -> Volume:
        if phase not in files:
            other = next(iter(files.values()))
            raise DataError(
                f"{other}: case '{case}' has no {phase} file; add {case}_{phase}.nii.gz or give "
                f"the case class {LEFT_OUT}"
            )
        return self._mask(files[phase])

    def _mask(self, path: pathlib.Path) -> Volume:
        """A file with a binary mask in place of its labels."""
        volume = read_volume(path, label=True)
        label = volume.array if self._label_map is None else remap(volume.array, self._label_map)
        if label.ndim != 3:
            raise DataError(f"{path}: is of shape {label.shape}; give a volume of three axes")
        if not (label > 0).any():
            raise DataError(f"{path}: the mask is empty; correct it or leave the case out")
        return dataclasses.replace(volume, array=label > 0)

    def _placed(
        self,
        volumes: Sequence[Volume],
        grid: Grid,
        spacing: float | int,
        template: Bool[np.ndarray, "d h w"] | None = None,
    ) -> tuple[list[Bool[np.ndarray, "d h w"]], Float[np.ndarray, "4 4"]]:
        """The masks of all phases in the box about the first, and where the box lies."""
        first = volumes[0]
        centre = first.affine[:3, :3] @ np.argwhere(first.array).mean(0) + first.affine[:3, 3]
        axes = first.affine[:3, :3] / np.asarray(first.spacing)
        turn, shift = np.eye(3), np.zeros(3)
        if template is not None:
            start = _sampled(first, axes, centre, grid.shape, spacing)
            turn, shift = rigid_alignment(start, template, (spacing,) * 3)
        axes, centre = axes @ turn, centre + axes @ shift
        affine = np.eye(4)
        affine[:3, :3] = axes * spacing
        affine[:3, 3] = centre - affine[:3, :3] @ ((np.asarray(grid.shape) - 1) / 2)
        return [_sampled(v, axes, centre, grid.shape, spacing) for v in volumes], affine


def _sampled(
    volume: Volume,
    axes: np.ndarray,
    centre: np.ndarray,
    shape: Sequence[int],
    spacing: float | int,
) -> Bool[np.ndarray, "d h w"]:
    """The mask on a grid with given axes (columns, unit vectors) and centre in mm."""
    middle = (np.asarray(shape) - 1) / 2
    to_file = np.linalg.inv(volume.affine)
    matrix = to_file[:3, :3] @ axes * spacing
    offset = to_file[:3, :3] @ centre + to_file[:3, 3] - matrix @ middle
    inside = np.linalg.solve(matrix, (np.argwhere(volume.array) - offset).T).T
    cut = float(((inside < -0.5) | (inside > 2 * middle + 0.5)).any(1).mean())
    if cut > _MOST_CUT:
        raise DataError(
            f"{volume.path}: {100 * cut:.0f} % of the mask lie outside the box of {tuple(shape)} "
            f"voxels of {spacing:g} mm; give a larger data.shape or data.spacing"
        )
    coarser = np.maximum(0.0, spacing / np.asarray(volume.spacing) - 1) / 2
    smooth = ndimage.gaussian_filter(volume.array.astype(np.float32), coarser)
    return ndimage.affine_transform(smooth, matrix, offset, tuple(shape), order=1) > 0.5


def _common_spacing(volume: Volume, expected: float | int | None) -> float:
    """The edge of a file's voxels where they are cubes, of the size of the others."""
    sizes = np.asarray(volume.spacing)
    if np.ptp(sizes) > 0.01 * sizes.min() or (expected and abs(sizes[0] / expected - 1) > 0.01):
        given = " x ".join(f"{s:g}" for s in sizes)
        others = f", others of {expected:g} mm" if expected else ""
        raise DataError(
            f"{volume.path}: voxels of {given} mm{others}; set data.spacing to the edge in mm that "
            "all are brought to"
        )
    return float(sizes[0])
