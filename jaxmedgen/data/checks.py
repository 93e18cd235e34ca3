"""Reading one subject, and checking all of them before training.

A folder with broken files should say so once, with every name, and not one file an evening.
`check_files` reads all subjects and returns their problems together with the facts that the rest
of the set-up needs (spacings, label values, foreground intensities), so that one pass suffices.
"""

import concurrent.futures
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.data.cache import RecordCache, content_key
from jaxmedgen.data.layouts import Case, Layout, Problem
from jaxmedgen.data.nifti import Volume, read_volume
from jaxmedgen.data.preprocess import nonzero_box
from jaxmedgen.data.untrusted import DataError

_INTENSITIES_A_CASE = 10_000
"""Foreground voxels kept a subject and channel for the data set's CT statistics, as in nnU-Net."""


class BrokenCaseError(DataError):
    """A subject's files cannot be used; `problems` lists them."""

    def __init__(self, problems: Sequence[Problem]):
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclasses.dataclass(frozen=True)
class ReadCase:
    """One subject's arrays, RAS+, before preprocessing.

    Attributes:
        name: the case name.
        image: float32 `[*space, c]`, or None.
        label: int32 `[*space]` with the file's values, or None.
        spacing: mm an axis.
        reference: the volume whose grid all share; predictions go back by
            `nifti.write_like(path, array, reference)`.
    """

    name: str
    image: np.ndarray | None
    label: np.ndarray | None
    spacing: tuple[float, ...]
    reference: Volume


@dataclasses.dataclass(frozen=True)
class CaseFacts:
    """What the set-up needs to know of a subject.

    Attributes:
        shape: spatial shape, RAS+.
        content_shape: shape of the box of non-zero voxels.
        spacing: mm an axis.
        channels: number of image channels.
        label_values: values in the label map, None without one.
        intensities: a sample of foreground (without a label: all non-zero) voxels a channel, if
            asked for.
    """

    shape: tuple[int, ...]
    content_shape: tuple[int, ...]
    spacing: tuple[float, ...]
    channels: int
    label_values: tuple[int, ...] | None
    intensities: tuple[tuple[float, ...], ...]


def read_case(case: Case) -> ReadCase:
    """Reads a subject and checks that its files are of one grid.

    Raises:
        BrokenCaseError: with all its problems.
    """
    problems: list[Problem] = []

    def read(path: pathlib.Path, label: bool) -> Volume | None:
        try:
            return read_volume(path, label=label)
        except DataError as error:
            problems.append(Problem(path, str(error).removeprefix(f"{path}: ")))
            return None

    images = [read(path, False) for path in case.images]
    label = None if case.label is None else read(case.label, True)
    volumes = [v for v in (*images, label) if v is not None]
    for volume in volumes[1:]:
        difference = grid_difference(volumes[0], volume)
        if difference:
            problems.append(Problem(volume.path, difference))
    for volume in images:
        if volume is not None and volume.array.min() == volume.array.max():
            problems.append(
                Problem(volume.path, f"every voxel is {volume.array.flat[0]:g}; export it again")
            )
    if problems:
        raise BrokenCaseError(problems)
    space = volumes[0].spatial_shape
    image = None
    if images:
        image = np.concatenate([v.array.reshape(*space, -1) for v in images], axis=-1)
    return ReadCase(
        name=case.name,
        image=image,
        label=None if label is None else label.array,
        spacing=volumes[0].spacing,
        reference=volumes[0],
    )


def grid_difference(first: Volume, other: Volume) -> str | None:
    """How `other` lies elsewhere than `first`; None when they share a grid."""
    if first.spatial_shape != other.spatial_shape:
        return (
            f"shape {other.spatial_shape} differs from {first.spatial_shape} of {first.path.name}; "
            "resample it onto that grid"
        )
    size = np.array([*first.spatial_shape, 1, 1, 1][:3])
    if first.slice_axis is not None:
        size = np.insert(first.spatial_shape, first.slice_axis, 1)
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in size], indexing="ij"), -1).reshape(-1, 3)
    homogeneous = np.concatenate([corners, np.ones((8, 1))], axis=1)
    apart = np.linalg.norm(homogeneous @ (first.affine - other.affine).T, axis=1).max()
    if apart > 0.1 * min(first.spacing):
        return (
            f"lies up to {apart:.3g} mm away from {first.path.name} (their affines differ); "
            "resample it or copy the right affine"
        )
    return None


def gather_facts(case: Case, *, intensities: bool = False) -> CaseFacts:
    """Reads a subject for its facts, with or without a sample of intensities.

    Raises:
        BrokenCaseError: with all its problems.
    """
    read = read_case(case)
    values, sample = None, ()
    if read.label is not None:
        values = tuple(int(v) for v in np.unique(read.label))
    if intensities and read.image is not None:
        voxels = foreground_sample(read.image, read.label)
        sample = tuple(tuple(map(float, column)) for column in voxels)
    shape = read.reference.spatial_shape
    box = nonzero_box(read.label[..., None] if read.image is None else read.image)
    return CaseFacts(
        shape=shape,
        content_shape=shape if box is None else tuple(s.stop - s.start for s in box),
        spacing=read.spacing,
        channels=0 if read.image is None else read.image.shape[-1],
        label_values=values,
        intensities=sample,
    )


def foreground_sample(
    image: Float[np.ndarray, "*s c"], label: Int[np.ndarray, "*s"] | None
) -> Float[np.ndarray, "c n"]:
    """At most 10,000 foreground voxels, or of those that are not 0 where there is no label."""
    voxels = image[label > 0 if label is not None else np.any(image != 0, axis=-1)]
    if len(voxels) > _INTENSITIES_A_CASE:
        step = np.linspace(0, len(voxels) - 1, _INTENSITIES_A_CASE).astype(int)
        voxels = voxels[step]
    return voxels.T


def check_files(
    layout: Layout,
    *,
    label_map: Mapping[int, int] | None = None,
    allow_empty_labels: bool | None = False,
    intensities: bool = False,
    cache: RecordCache | None = None,
    num_threads: int = 4,
) -> tuple[list[Problem], dict[str, CaseFacts]]:
    """Reads every file of a folder.

    Args:
        layout: the folder's cases.
        label_map: file value -> class, where given; decides what an empty label is.
        allow_empty_labels: takes label maps without foreground (healthy subjects); None refuses
            them like False, but names no setting that would take them.
        intensities: also samples foreground intensities.
        cache: remembers the facts of unchanged files.
        num_threads: files read at once.

    Returns:
        All problems, those of the layout first, and the facts of the cases that can be read.
    """
    cache = cache or RecordCache()

    def visit(case: Case) -> CaseFacts | list[Problem]:
        files = [*case.images, *([] if case.label is None else [case.label])]
        try:
            facts = cache.facts(
                case.name,
                content_key(files, "facts", intensities),
                lambda: dataclasses.asdict(gather_facts(case, intensities=intensities)),
            )
            return _facts_from_json(facts)
        except BrokenCaseError as error:
            return list(error.problems)
        except FileNotFoundError as error:
            return [Problem(pathlib.Path(error.filename), "no such file; check the path")]

    problems, facts = list(layout.problems), {}
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for case, found in zip(layout.cases, pool.map(visit, layout.cases)):
            if isinstance(found, CaseFacts):
                facts[case.name] = found
                problems += _label_problems(case, found, layout, label_map, allow_empty_labels)
            else:
                problems += found
    return problems + _odd_ones_out(layout, facts), facts


def _label_problems(
    case: Case,
    facts: CaseFacts,
    layout: Layout,
    label_map: Mapping[int, int] | None,
    allow_empty_labels: bool | None,
) -> list[Problem]:
    if facts.label_values is None:
        return []
    values = set(facts.label_values)
    if label_map is None and layout.label_names is not None:
        unknown = sorted(values - set(layout.label_names))
        if unknown:
            return [
                Problem(
                    case.label,
                    f"label values {unknown[:8]} are not in dataset.json, which has "
                    f"{sorted(layout.label_names)}; add them there or correct the file",
                )
            ]
    classes = values if label_map is None else {label_map.get(v, 0) for v in values}
    if not allow_empty_labels and classes <= {0}:
        remedy = "leave it out"
        if allow_empty_labels is not None:
            remedy += ", or set --config.data.empty_labels=True to keep such subjects"
        return [Problem(case.label, f"holds only background; {remedy}")]
    return []


def _odd_ones_out(layout: Layout, facts: Mapping[str, CaseFacts]) -> list[Problem]:
    """Cases with another number of axes or channels than most."""
    problems = []
    for what, measure in (
        ("spatial axes", lambda f: len(f.shape)),
        ("image channels", lambda f: f.channels),
    ):
        numbers = [measure(f) for f in facts.values()]
        usual = max(set(numbers), key=numbers.count, default=0)
        for case in layout.cases:
            if case.name in facts and measure(facts[case.name]) != usual:
                file = case.images[0] if case.images else case.label
                number = measure(facts[case.name])
                problems.append(
                    Problem(file, f"has {number} {what}, most have {usual}; convert it")
                )
    return problems


def _facts_from_json(facts: Mapping[str, Any]) -> CaseFacts:
    """Facts of an entry that may have been through JSON, where tuples become lists."""
    facts = json.loads(json.dumps(facts))
    values = facts["label_values"]
    return CaseFacts(
        shape=tuple(facts["shape"]),
        content_shape=tuple(facts["content_shape"]),
        spacing=tuple(facts["spacing"]),
        channels=facts["channels"],
        label_values=None if values is None else tuple(values),
        intensities=tuple(tuple(column) for column in facts["intensities"]),
    )
