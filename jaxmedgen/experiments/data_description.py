"""``dataset.json`` of a run: what prediction must know of the training data."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping

from ml_collections import ConfigDict

from jaxmedgen.data.build import preprocessing
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.hemispheres import patient_of_slice
from jaxmedgen.data.image_slices import ImageSlices
from jaxmedgen.data.prepared import Prepared
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import ArraySource, DatasetInfo, Source
from jaxmedgen.data.splits import patient_of
from jaxmedgen.data.unpaired import Origin, Pairs
from jaxmedgen.train.environment import write_json

_DIGITS = ("mnist", "cluttered_digits")
"""Kinds of data whose folder holds no patients."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What the file holds.

    Attributes:
        info: of the training data, without case names.
        preprocessing: that brings new scans to where they are.
        label_map: file value -> class, or None.
        origin: of slices of volumes, how these are cut, or None.
        patients: who trained, where data came from a user's folder.
    """

    info: DatasetInfo
    preprocessing: Preprocessing
    label_map: Mapping[int, int] | None
    origin: Origin | None
    patients: tuple[str, ...] = ()


def read_description(path: pathlib.Path) -> Description:
    """Reads what `describe_data` wrote."""
    data = json.loads(path.read_text())
    info = DatasetInfo(
        tuple(data["class_names"]), tuple(data["channel_names"]), tuple(data["spacing"]), ()
    )
    origin = data.get("origin")
    if origin is not None:
        origin = Origin(
            Preprocessing.from_json(json.dumps(origin["preprocessing"])),
            tuple(origin["finding"]),
            _read_map(origin["label_map"]),
        )
    prepared = Preprocessing.from_json(json.dumps(data["preprocessing"]))
    patients = tuple(data.get("patients", ()))
    return Description(info, prepared, _read_map(data.get("label_map")), origin, patients)


def describe_data(
    workdir: pathlib.Path, info: DatasetInfo, config: ConfigDict, source: Source
) -> None:
    """Writes ``dataset.json``: what prediction must know of the training data."""
    folder, origin = _folder_of(source), _origin_of(source)
    content = {
        "class_names": info.class_names,
        "channel_names": info.channel_names,
        "spacing": info.spacing,
        "preprocessing": json.loads(fitted_preprocessing(config, source).to_json()),
        "label_map": None if folder is None else folder.label_map,
    }
    if config.data.get("folder") and config.data.kind not in _DIGITS:
        content["patients"] = sorted({patient_of(name) for name in _cases_of(source)})
    if origin is not None:
        content["origin"] = {
            "preprocessing": json.loads(origin.preprocessing.to_json()),
            "finding": origin.finding,
            "label_map": origin.label_map,
        }
    write_json(workdir / "dataset.json", content)


def fitted_preprocessing(config: ConfigDict, source: Source) -> Preprocessing:
    """The preprocessing that brings new scans to where `source`'s subjects are."""
    prepared = _prepared_of(source)
    if prepared is not None:
        return prepared.preprocessing
    return dataclasses.replace(preprocessing(config.data), spacing=source.info.spacing)


def _folder_of(source: Source) -> FolderSource | None:
    """The folder that `source` is a part or a relabelling of, if it is one."""
    prepared = _prepared_of(source)
    return prepared if isinstance(prepared, FolderSource) else None


def _prepared_of(source: Source | None) -> FolderSource | Prepared | None:
    """The folder or other preprocessed source that `source` is a view of, if it is one."""
    while source is not None and not isinstance(source, FolderSource | Prepared):
        kept = isinstance(source, ArraySource)
        source = source.origin if kept else getattr(source, "source", None)
    return source


def _cases_of(source: Source) -> tuple[str, ...]:
    """The cases that `source` shows slices of, or its own."""
    stacks = getattr(source, "stacks", None)
    if stacks is not None:
        return tuple(stack.name for stack in stacks)
    part = source
    while not isinstance(part, ImageSlices) and hasattr(part, "source"):
        part = part.source
    if _origin_of(source) is not None:
        return tuple(patient_of_slice(name) for name in source.info.case_names)
    return part.source.info.case_names if isinstance(part, ImageSlices) else source.info.case_names


def _origin_of(source: Source) -> Origin | None:
    """How the volumes were cut that `source`'s slices are of, if they are."""
    while not isinstance(source, Pairs) and hasattr(source, "source"):
        source = source.source
    return source.origin if isinstance(source, Pairs) else None


def _read_map(stored: Mapping[str, int] | None) -> dict[int, int] | None:
    """JSON's keys are text."""
    return None if stored is None else {int(value): k for value, k in stored.items()}
