"""What the folder of a study or a training belongs to: settings, subjects, classes, their content.

A study that goes on with other data would put runs of two data sets into one table, and might test
on a subject that earlier runs have trained on. So ``study.json`` keeps the names of all subjects
and what those held that a run has read; ``dataset.json`` of a training has its patients.
"""

import hashlib
import json
import pathlib
import tempfile
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.configuration import ConfigError
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.sources import ArraySource, DatasetInfo, Record, Source
from jaxmedgen.experiments.data_description import describe_data, read_description
from jaxmedgen.experiments.study import Study
from jaxmedgen.train.environment import write_json

_PARTS = {"train": "training", "validation": "validation", "test": "test"}

_TOLERANCE = 1e-4
"""Of an image's summary in units of its size: processors differ in the last digits of a mean."""


def claim_study(study: Study, workdir: pathlib.Path) -> None:
    """Writes ``study.json``; arms, budgets and seeds may grow, nothing else may change.

    What a file of an older version lacks is filled in.

    Raises:
        ConfigError: the folder's study has other settings, scores, subjects or classes.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "study.json"
    data = _as_stored(_described(study))
    content = {}
    if path.exists():
        stored = json.loads(path.read_text())
        before = configuration.from_json(json.dumps(stored["config"]))
        changed = configuration.changes_since(before, study.config)
        if changed:
            raise ConfigError(
                f"{workdir} holds a study with other settings ({'; '.join(changed[:4])}): "
                "use another --workdir, or the same settings to go on"
            )
        scoring = stored.get("scoring", {"regions": "", "absent": "excluded"})
        if scoring != _scoring(study):
            raise ConfigError(
                f"{workdir} holds a study that is scored with {_flags(scoring)}, not "
                f"{_flags(_scoring(study))}: use another --workdir, or the same flags to go on"
            )
        # An older version kept the test subjects alone.
        other = _first_difference(stored.get("data", {"test": stored.get("test")}), data)
        if other:
            raise ConfigError(_other_data(workdir, "study", other))
        content = stored.get("content", {})
    write_json(
        path,
        {
            "command": study.command,
            "arms": list(study.arms),
            "budgets": study.budgets,
            "seeds": study.seeds,
            "test": study.sources.test.info.case_names,
            "config": study.config.to_dict(),
            "scoring": _scoring(study),
            "data": data,
            "content": content,
        },
    )


def claim_content(workdir: pathlib.Path, part: str, source: Source) -> None:
    """Notes in ``study.json`` what subjects hold, or checks that it is what they held before.

    Args:
        workdir: of a study that `claim_study` has claimed.
        part: ``train``, ``validation`` or ``test``.
        source: subjects of this part, best in memory.

    Raises:
        ConfigError: a subject's label map or image is another one than the study has read.
    """
    path = workdir / "study.json"
    stored = json.loads(path.read_text())
    known = stored.setdefault("content", {}).setdefault(part, {})
    found = {name: _summary(source[i]) for i, name in enumerate(source.info.case_names)}
    for name, now in found.items():
        before = known.get(name, now)
        for what, same in (("label map", _same_label), ("image", _same_image)):
            if not same(before, now):
                other = f"{_PARTS[part]} subject {name} has another {what}"
                raise ConfigError(_other_data(workdir, "study", other))
    if found.keys() - known.keys():
        known |= found
        write_json(path, stored)


def refuse_other_data(
    workdir: pathlib.Path, info: DatasetInfo, config: ConfigDict, source: Source
) -> None:
    """Checks that a training's folder is of the same patients and classes, where it has any.

    Args:
        workdir: of the training.
        info: of the data set.
        config: of the training.
        source: its training subjects.

    Raises:
        ConfigError: ``dataset.json`` names other patients or classes.
    """
    path = workdir / "dataset.json"
    if not path.exists():
        return
    before = read_description(path)
    with tempfile.TemporaryDirectory() as folder:
        describe_data(pathlib.Path(folder), info, config, source)
        now = read_description(pathlib.Path(folder) / "dataset.json")
    pairs = {
        "classes": (before.info.class_names, now.info.class_names),
        "channels": (before.info.channel_names, now.info.channel_names),
        "label map": (before.label_map, now.label_map),
    }
    other = next((_changed(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]), "")
    if not other and before.patients:  # older folders name none
        other = _changed_names("training patient", list(before.patients), list(now.patients))
    if other:
        raise ConfigError(_other_data(workdir, "run", other))


def _scoring(study: Study) -> dict[str, str]:
    return {"regions": study.regions, "absent": study.absent}


def _flags(scoring: dict[str, str]) -> str:
    return " ".join(f"--{name} '{value}'" for name, value in scoring.items())


def _described(study: Study) -> dict[str, Any]:
    """Classes and names of subjects."""
    sources = study.sources
    parts = {part: getattr(sources, part).info.case_names for part in _PARTS}
    return {
        "classes": sources.info.class_names,
        "training classes": sources.train.info.class_names,
        "label map": _label_map(sources.train),
        **parts,
    }


def _label_map(source: Source | None) -> dict[int, int] | None:
    """File value -> class of the folder that `source` is a view of; None of other data."""
    while source is not None and not isinstance(source, FolderSource):
        kept = isinstance(source, ArraySource)
        source = source.origin if kept else getattr(source, "source", None)
    if source is None or source.label_map is None:
        return None
    return {int(value): int(k) for value, k in source.label_map.items()}


def _first_difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first thing that is not as it was, or empty; what was not kept is no difference."""
    for name, value in now.items():
        old = before.get(name)
        if old is None or old == value:
            continue
        if name not in _PARTS:
            return _changed(name, old, value)
        if found := _changed_names(f"{_PARTS[name]} subject", old, value):
            return found
    return ""


def _changed_names(kind: str, before: list[str], now: list[str]) -> str:
    """Which name went or came first, or empty."""
    gone, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
    if gone:
        return f"{kind} {gone[0]} is gone"
    return f"{kind} {new[0]} is new" if new else ""


def _changed(name: str, before: object, now: object) -> str:
    return f"{name}: {before} -> {now}"


def _other_data(workdir: pathlib.Path, kind: str, other: str) -> str:
    return (
        f"{workdir} holds a {kind} of other data ({other}): use another --workdir, or the same "
        "data to go on"
    )


def _as_stored(value: dict[str, Any]) -> dict[str, Any]:
    """As it is read back from JSON: lists, and keys that are text."""
    return json.loads(json.dumps(value))


def _summary(record: Record) -> dict[str, Any]:
    """A label map's hash and a few numbers of an image.

    Label maps are whole numbers and the same on every machine. Images have been resampled and
    normalised in floating point, whose last digits are not, so no hash would do.
    """
    found: dict[str, Any] = {}
    if "label" in record:
        label = np.ascontiguousarray(record["label"], np.int32)
        found["label"] = hashlib.sha256(repr(label.shape).encode() + label.tobytes()).hexdigest()
    if "image" in record:
        image = np.asarray(record["image"], np.float64)
        waves = np.cos(np.arange(image.size).reshape(image.shape) * 0.7390851)
        scale = float(np.sqrt(np.mean(image**2)))
        numbers = [image.mean(), np.mean(image * waves), np.mean(image * waves**2)]
        found["image"] = {"shape": list(image.shape), "numbers": [scale, *map(float, numbers)]}
    return found


def _same_label(before: dict[str, Any], now: dict[str, Any]) -> bool:
    return before.get("label") == now.get("label")


def _same_image(before: dict[str, Any], now: dict[str, Any]) -> bool:
    if "image" not in before or "image" not in now:
        return ("image" in before) == ("image" in now)
    one, other = before["image"], now["image"]
    size = max(one["numbers"][0], other["numbers"][0])
    return one["shape"] == other["shape"] and np.allclose(
        *(one["numbers"], other["numbers"]), rtol=0, atol=_TOLERANCE * size, equal_nan=True
    )
