"""What is known of label files that this library wrote, from the JSON file beside their folder.

``records.json`` (`label_files`) and ``manifest.json`` (`synthetic.manifest`) say of each file where
its slices lie (``slice_axis``), and that its values are classes already (``class_names``): nothing
that maps the values of a user's files may touch them. Other folders say neither.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping

from nibabel import orientations

from jaxmedgen.data.nifti import Volume
from jaxmedgen.data.untrusted import DataError

RECORDS, MANIFEST = "records.json", "manifest.json"


@dataclasses.dataclass(frozen=True)
class LabelNote:
    """What is known of a label file.

    Attributes:
        class_names: of its values 0, 1, 2, ...; () where the values are a user's own.
        slice_axis: axis of the file across its slices; None where it is not known.
    """

    class_names: tuple[str, ...] = ()
    slice_axis: int | None = None


def read_notes(labels: pathlib.Path) -> Mapping[str, LabelNote]:
    """Notes on label files by their names without suffix; empty for folders of others.

    Args:
        labels: folder of label files, or one of them.

    Raises:
        DataError: a file beside the folder that is no JSON.
    """
    beside = (labels if labels.is_dir() else labels.parent).parent
    notes: dict[str, LabelNote] = {}
    for path in (beside / MANIFEST, beside / RECORDS):
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            raise DataError(f"{path} is no JSON: restore it, or move the labels away") from error
        shared = content if isinstance(content, dict) else {}
        entries = shared.get("images", ()) if isinstance(content, dict) else content
        for entry in entries:
            if not isinstance(entry, dict) or "name" not in entry:
                continue  # somebody else's file of that name
            said = {**shared, **entry}
            notes[entry["name"]] = LabelNote(
                tuple(said.get("class_names", ())), said.get("slice_axis")
            )
    return notes


def axis_in_ras(volume: Volume, axis: int) -> int:
    """Where an axis of a file is in its array, which `read_volume` has turned to RAS+."""
    return int(orientations.io_orientation(volume.file_affine)[axis, 0])


def axis_in_file(volume: Volume, axis: int) -> int:
    """The axis of the file that an axis of its array was."""
    turned = orientations.io_orientation(volume.file_affine)[:, 0]
    return [int(place) for place in turned].index(axis)
