"""Finds the cases of a folder: which files belong together, and what is missing.

Layouts: nnU-Net v2 raw (`dataset.json`, `imagesTr/NAME_0000.nii.gz`, `labelsTr/NAME.nii.gz`,
`imagesTs`, `labelsTs`; the `dataset` table too;
https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md), plain `images/`
and `labels/` with equal stems (channels as `NAME_0000`, `NAME_0001`, ...), and label maps or
images alone, in `labels/`, `images/` or right in the folder. No voxel is read here.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Container
from typing import Any

from jaxmedgen.data.nifti import is_volume_file, stem
from jaxmedgen.data.untrusted import SUFFIXES, DataError


@dataclasses.dataclass(frozen=True)
class Case:
    """One subject's files: an image a channel, and its label map if there is one."""

    name: str
    images: tuple[pathlib.Path, ...]
    label: pathlib.Path | None


@dataclasses.dataclass(frozen=True)
class Problem:
    """A file that cannot be used, and why."""

    file: pathlib.Path
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class Layout:
    """The cases of a folder, by name, and what its description says.

    Attributes:
        folder: the folder.
        kind: "nnunet", "pairs", "images" or "labels".
        cases: sorted by name; broken ones are left out.
        channel_names: of the images; empty for label maps alone.
        label_names: label value -> class name, where the folder says.
        has_regions: `dataset.json` describes overlapping regions or an ignore label, so that file
            values are no classes.
        problems: files that belong to no case, or whose partners are missing.
    """

    folder: pathlib.Path
    kind: str
    cases: tuple[Case, ...]
    channel_names: tuple[str, ...]
    label_names: dict[int, str] | None
    problems: tuple[Problem, ...]
    has_regions: bool = False


def discover(
    folder: str | os.PathLike,
    *,
    split: str = "train",
    contents: str = "auto",
    require_labels: bool = True,
) -> Layout:
    """Finds the cases of a folder.

    Args:
        folder: in one of the layouts above.
        split: "train" or, for nnU-Net folders, "test" (`imagesTs`, whose labels may be missing).
        contents: what files right in the folder are: "images", "labels", or "auto": images where
            names end in a channel number (`_0000`), else labels.
        require_labels: where some images have labels, counts one without as a problem; otherwise
            it becomes a case without label.

    Raises:
        DataError: no such folder, no image file in it, or a `dataset.json` that cannot be used.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check the path")
    if split not in ("train", "test"):
        raise ValueError(f"split {split!r} is not 'train' or 'test'")
    if contents not in ("auto", "images", "labels"):
        raise ValueError(f"contents {contents!r} is not 'auto', 'images' or 'labels'")
    if (folder / "dataset.json").is_file():
        return _nnunet(folder, split, require_labels and split == "train")
    if split == "test" or (folder / "imagesTr").is_dir():
        ending = "Tr" if split == "train" else "Ts"
        images, labels = folder / f"images{ending}", folder / f"labels{ending}"
    else:
        images, labels = folder / "images", folder / "labels"
    if images.is_dir():
        return _pairs(folder, images, labels, require_labels and split == "train")
    files = _volumes(labels if labels.is_dir() else folder)
    if not files:
        raise DataError(
            f"{folder}: holds no NIfTI files; give a folder with images/ and labels/, with "
            "dataset.json (nnU-Net), or with .nii.gz files"
        )
    looks_like_images = not labels.is_dir() and _numbers_are_channels(files, ())
    if contents == "images" or (contents == "auto" and looks_like_images):
        return _pairs(folder, folder, labels, require_labels=False)
    cases, problems = {}, []
    for file in files:
        _add(cases, problems, stem(file), Case(stem(file), (), file), file)
    return Layout(folder, "labels", _in_order(cases), (), None, tuple(problems))


def _pairs(
    folder: pathlib.Path, images: pathlib.Path, labels: pathlib.Path, require_labels: bool
) -> Layout:
    """Images grouped by name, with the labels of the same names."""
    problems: list[Problem] = []
    label_files: dict[str, pathlib.Path] = {}
    for file in _volumes(labels) if labels.is_dir() else []:
        _add(label_files, problems, stem(file), file, file)
    files = _volumes(images)
    numbered = _numbers_are_channels(files, label_files)
    groups: dict[str, dict[int, pathlib.Path]] = {}
    for file in files:
        name, channel = _channel(file) if numbered else (stem(file), 0)
        if channel is None:
            name, channel = stem(file), 0
        _add(groups.setdefault(name, {}), problems, channel, file, file)
    if not groups:
        raise DataError(f"{images}: holds no NIfTI files; put the scans there as .nii.gz")
    channels = max(max(group) for group in groups.values()) + 1
    cases = {}
    for name, group in groups.items():
        label = label_files.pop(name, None)
        missing = sorted(set(range(channels)) - set(group))
        first = group[min(group)]
        if missing:
            problems.append(
                Problem(first, f"channel {missing[0]:04d} is missing; others have {channels}")
            )
        elif label is None and labels.is_dir() and require_labels:
            problems.append(Problem(first, f"has no label {labels.name}/{name}; add it"))
        else:
            cases[name] = Case(name, tuple(group[c] for c in range(channels)), label)
    for file in label_files.values():
        problems.append(
            Problem(file, f"has no image in {images.name}/; add it or remove the label")
        )
    kind = "pairs" if labels.is_dir() else "images"
    names = tuple(f"channel {c}" for c in range(channels)) if channels > 1 else ("image",)
    return Layout(folder, kind, _in_order(cases), names, None, tuple(problems))


def _nnunet(folder: pathlib.Path, split: str, require_labels: bool) -> Layout:
    content = _read_json(folder / "dataset.json")
    names = content.get("channel_names", content.get("modality"))
    if not isinstance(names, dict) or not names:
        raise _bad_json(folder, "channel_names is missing")
    if sorted(names) != sorted(map(str, range(len(names)))):
        raise _bad_json(folder, f"channel_names has keys {sorted(names)}, not 0, 1, ...")
    channel_names = tuple(str(names[str(c)]) for c in range(len(names)))
    ending = content.get("file_ending", ".nii.gz")
    if ending not in SUFFIXES:
        raise _bad_json(folder, f"file_ending {ending!r} cannot be read; convert to .nii.gz")
    suffix = "Tr" if split == "train" else "Ts"
    problems: list[Problem] = []
    cases = {}
    if isinstance(content.get("dataset"), dict) and split == "train":
        for name, entry in content["dataset"].items():
            try:
                images = tuple(folder / p for p in entry["images"])
                cases[name] = Case(name, images, folder / entry["label"])
            except (KeyError, TypeError) as error:
                raise _bad_json(folder, f"dataset {name!r} lacks images or label") from error
    else:
        images, labels = folder / f"images{suffix}", folder / f"labels{suffix}"
        if not images.is_dir():
            raise DataError(f"{images}: no such folder; nnU-Net data keep their scans there")
        found = _volumes(images, ending)
        label_files = {stem(f): f for f in _volumes(labels, ending)} if labels.is_dir() else {}
        numbered = {_channel(f)[0] for f in found if _channel(f)[1] is not None}
        for name in sorted(numbered | set(label_files)):
            files = tuple(images / f"{name}_{c:04d}{ending}" for c in range(len(names)))
            label = label_files.get(name)
            absent = [f for f in files if f not in set(found)]
            problems += [Problem(f, "is missing; every case needs each channel") for f in absent]
            if label is None and require_labels:
                problems.append(Problem(labels / f"{name}{ending}", "is missing; add the label"))
            elif not absent:
                cases[name] = Case(name, files, label)
        for file in found:
            if _channel(file)[1] is None or _channel(file)[1] >= len(names):
                problems.append(
                    Problem(
                        file, f"is no channel of {list(channel_names)}; name it NAME_0000{ending}"
                    )
                )
    if not cases and not problems:
        raise DataError(f"{folder}: images{suffix}/ holds no {ending} files; put the scans there")
    label_names = _label_names(folder, content)
    return Layout(
        folder=folder,
        kind="nnunet",
        cases=_in_order(cases),
        channel_names=channel_names,
        label_names=label_names,
        problems=tuple(problems),
        has_regions=label_names is None,
    )


def _label_names(folder: pathlib.Path, content: Any) -> dict[int, str] | None:
    """Value -> name; None where labels are regions, which need a label map."""
    labels = content.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise _bad_json(folder, "labels is missing")
    # nnU-Net v1 wrote {"0": "background"}, v2 writes {"background": 0}.
    if all(str(key).isdecimal() for key in labels):
        labels = {name: int(value) for value, name in labels.items()}
    if "ignore" in labels or any(isinstance(value, list) for value in labels.values()):
        return None
    try:
        by_value = {int(value): str(name) for name, value in labels.items()}
    except (TypeError, ValueError) as error:
        raise _bad_json(folder, f"labels {labels} are not numbers") from error
    if len(by_value) != len(labels) or by_value.get(0) != "background":
        raise _bad_json(folder, "labels must be distinct numbers with background 0")
    return dict(sorted(by_value.items()))


def _read_json(path: pathlib.Path) -> Any:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); correct the JSON") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: holds {type(content).__name__}, not an object; see nnU-Net's format"
        )
    return content


def _bad_json(folder: pathlib.Path, problem: str) -> DataError:
    return DataError(f"{folder / 'dataset.json'}: {problem}; see nnU-Net's dataset format")


def _channel(file: pathlib.Path) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.+)_(\d{4})", stem(file))
    return (match.group(1), int(match.group(2))) if match else (stem(file), None)


def _numbers_are_channels(files: list[pathlib.Path], labels: Container[str]) -> bool:
    """Whether `scan_0001` is channel 1 of `scan`, or a scan of that name; one answer a folder."""
    groups: dict[str, set[int | None]] = {}
    for file in files:
        name, channel = _channel(file)
        groups.setdefault(name, set()).add(channel)
    if any(stem(f) in labels for f in files):
        return False
    if any(name in labels for name in groups):
        return True
    if not all(0 in channels for channels in groups.values()):
        return False
    # One name with many numbers is a numbered series of scans.
    return len(groups) > 1 or all(len(channels) <= 8 for channels in groups.values())


def _volumes(folder: pathlib.Path, ending: str = "") -> list[pathlib.Path]:
    return sorted(
        f for f in folder.iterdir() if f.is_file() and is_volume_file(f) and f.name.endswith(ending)
    )


def _add(table: dict, problems: list[Problem], key: Any, value: Any, file: pathlib.Path) -> None:
    if key in table:
        problems.append(
            Problem(file, "another file has the same name but for its ending; keep one")
        )
    else:
        table[key] = value


def _in_order(cases: dict[str, Case]) -> tuple[Case, ...]:
    return tuple(cases[name] for name in sorted(cases))
