"""TensorFlow Datasets in and out, without TensorFlow.

TFDS stores a data set as `array_record` shards with a description of its features; those are read
by random access (`as_data_source`) and written by a plain Python builder, and neither imports
TensorFlow (tested). Class, channel and case names and the spacing travel in the data set's
metadata, the spacing of subjects that have their own with these. Data sets prepared as TFRecord
must be converted once, where TensorFlow is installed, with `tfds.core.convert_format`.
"""

import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxmedgen.data.sources import DatasetInfo, Source
from jaxmedgen.data.untrusted import DataError


class TfdsSource:
    """One split of a prepared TFDS data set as a `Source`."""

    def __init__(
        self,
        builder: str | os.PathLike,
        split: str = "train",
        *,
        data_dir: str | os.PathLike | None = None,
        image_key: str = "image",
        label_key: str = "label",
    ):
        """Opens the data set.

        Args:
            builder: the folder of a prepared data set (with `dataset_info.json`), or a TFDS name.
            split: split, or slice of one (`"train[:20%]"`).
            data_dir: where named data sets lie; TFDS's own place by default.
            image_key: feature that holds the image, channels last; optional there.
            label_key: feature that holds the label map; optional there.

        Raises:
            DataError: no such data set or split, another file format, or neither feature.
        """
        opened = _open(builder, data_dir)
        try:
            self._data = opened.as_data_source(split)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise DataError(
                f"{opened.data_dir}: split {split!r} cannot be read ({_one_line(error)}); choose "
                f"among {sorted(opened.info.splits)}, prepared with file_format='array_record'"
            ) from error
        features = opened.info.features
        self._image_key = image_key if image_key in features else None
        self._label_key = label_key if label_key in features else None
        if self._image_key is None and self._label_key is None:
            raise DataError(
                f"{opened.data_dir}: has features {sorted(features)}, neither {image_key!r} nor "
                f"{label_key!r}; name yours"
            )
        self._own_spacing = features["spacing"].shape if "spacing" in features else None
        self._info = self._describe(opened, split)

    @property
    def info(self) -> DatasetInfo:
        """From the data set's metadata; numbered names and 1 mm where it has none."""
        return self._info

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        example = self._data[index]
        record = {}
        if self._image_key:
            record["image"] = np.asarray(example[self._image_key], np.float32)
        if self._label_key:
            label = np.asarray(example[self._label_key], np.int32)
            image = record.get("image")
            # TFDS keeps label maps of images as [*space, 1].
            if image is not None and label.ndim == image.ndim and label.shape[-1] == 1:
                label = label[..., 0]
            record["label"] = label
        axes = record["label"].ndim if "label" in record else record["image"].ndim - 1
        if self._own_spacing == (axes,):
            record["spacing"] = np.asarray(example["spacing"], np.float32)
        return record

    def _describe(self, builder: Any, split: str) -> DatasetInfo:
        metadata = dict(builder.info.metadata or {})
        first = self[0]
        axes = first["label"].ndim if "label" in first else first["image"].ndim - 1
        channels = first["image"].shape[-1] if "image" in first else 0
        names = tuple(metadata.get("case_names", {}).get(split, ()))
        if len(names) != len(self):
            names = tuple(f"{split}_{i}" for i in range(len(self)))
        classes = metadata.get("class_names")
        if classes is None and self._label_key:
            highest = max(int(self[i]["label"].max()) for i in range(len(self)))
            classes = ["background", *[f"label {v}" for v in range(1, highest + 1)]]
        return DatasetInfo(
            class_names=tuple(classes or ("background",)),
            channel_names=tuple(
                metadata.get("channel_names", [f"channel {c}" for c in range(channels)])
            ),
            spacing=tuple(metadata.get("spacing", [1.0] * axes)),
            case_names=names,
        )


def write_tfds(
    source: Source | Mapping[str, Source],
    folder: str | os.PathLike,
    name: str,
    version: str = "1.0.0",
) -> pathlib.Path:
    """Writes a source as a TFDS data set of `array_record` files.

    Args:
        source: the subjects, which become the split "train"; or a mapping of split names.
            All must have the same arrays, channels and number of axes; shapes may differ.
        folder: TFDS `data_dir`; the data set goes to `folder/name/version`.
        name: lower-case name, `[a-z][a-z0-9_]*`.
        version: three numbers.

    Returns:
        The folder to give to `TfdsSource`.

    Raises:
        DataError: a bad name, subjects that differ in their arrays, or a data set already there.
        OSError: the folder cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise DataError(f"{name!r} is not a data set name; use lower-case letters, digits and _")
    splits = dict(source) if isinstance(source, Mapping) else {"train": source}
    target = pathlib.Path(folder) / name / version
    if target.exists():
        raise DataError(f"{target}: exists already; choose another version or remove it")
    first = next(iter(splits.values()))
    example = first[0]

    def features() -> tfds.features.FeaturesDict:
        raw = {"encoding": tfds.features.Encoding.BYTES}
        table: dict[str, Any] = {"case": tfds.features.Text()}
        if "image" in example:
            shape = (*[None] * (example["image"].ndim - 1), example["image"].shape[-1])
            table["image"] = tfds.features.Tensor(shape=shape, dtype=np.float32, **raw)
        if "label" in example:
            shape = (None,) * example["label"].ndim
            table["label"] = tfds.features.Tensor(shape=shape, dtype=np.int32, **raw)
        if "spacing" in example:
            shape = example["spacing"].shape
            table["spacing"] = tfds.features.Tensor(shape=shape, dtype=np.float32)
        return tfds.features.FeaturesDict(table)

    metadata = tfds.core.MetadataDict(
        class_names=list(first.info.class_names),
        channel_names=list(first.info.channel_names),
        spacing=list(first.info.spacing),
        case_names={split: list(part.info.case_names) for split, part in splits.items()},
    )

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        pkg_dir_path = None

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self, features=features(), disable_shuffling=True, metadata=metadata
            )

        def _split_generators(self, download_manager: Any) -> dict[str, Any]:
            return {split: self._generate_examples(part) for split, part in splits.items()}

        def _generate_examples(self, part: Source) -> Iterator[tuple[int, dict[str, Any]]]:
            for index, case in enumerate(part.info.case_names):
                record = part[index]
                if record.keys() != example.keys():
                    raise DataError(
                        f"{case}: has {sorted(record)}, others have {sorted(example)}; leave it out"
                    )
                yield index, {"case": case, **{k: np.asarray(v) for k, v in record.items()}}

    Builder.name = name
    tfds.disable_progress_bar()
    builder = Builder(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)


def _open(builder: str | os.PathLike, data_dir: str | os.PathLike | None) -> Any:
    try:
        if (pathlib.Path(builder) / "dataset_info.json").is_file():
            return tfds.builder_from_directory(str(builder))
        place = None if data_dir is None else str(data_dir)
        return tfds.builder(str(builder), data_dir=place, try_gcs=False)
    except Exception as error:  # TFDS raises many kinds for names it does not know
        raise DataError(
            f"{builder}: no TFDS data set ({_one_line(error)}); give the folder with "
            "dataset_info.json"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
