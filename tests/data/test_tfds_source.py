import subprocess
import sys

import numpy as np
import pytest

from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.data.sources import ArraySource, DatasetInfo, Source
from jaxmedgen.data.tfds_source import TfdsSource, write_tfds
from jaxmedgen.data.untrusted import DataError


def make_source(n=4, image=True, label=True):
    rng = np.random.default_rng(0)
    records = []
    for i in range(n):
        shape = (5, 6, 4 + i)
        record = {}
        if image:
            record["image"] = rng.normal(size=(*shape, 2)).astype(np.float32)
        if label:
            record["label"] = rng.integers(0, 3, shape).astype(np.int32)
        records.append(record)
    return ArraySource(
        records,
        DatasetInfo(
            ("background", "liver", "tumour") if label else ("background",),
            ("t1", "t2") if image else (),
            (1.0, 1.5, 3.0),
            tuple(f"case {i}" for i in range(n)),
        ),
    )


def assert_same(got, source):
    assert isinstance(got, Source) and len(got) == len(source) and got.info == source.info
    for i in range(len(source)):
        record = got[i]
        assert record.keys() == source[i].keys()
        for name, array in source[i].items():
            np.testing.assert_array_equal(record[name], array)
            assert record[name].dtype == array.dtype


@pytest.mark.parametrize("kind", [{}, {"image": False}, {"label": False}])
def test_round_trip(tmp_path, kind):
    source = make_source(**kind)
    assert_same(TfdsSource(write_tfds(source, tmp_path, "organs")), source)


def test_splits_slices_and_training(tmp_path):
    train, test = make_source(4), make_source(2)
    folder = write_tfds({"train": train, "test": test}, tmp_path, "organs", "2.0.0")
    assert folder == tmp_path / "organs" / "2.0.0"
    assert_same(TfdsSource(folder, "test"), test)
    half = TfdsSource(folder, "train[:50%]")
    assert len(half) == 2 and half.info.class_names == train.info.class_names
    stream = training_stream(TfdsSource(folder), batch_size=3, seed=0, patch_size=(4, 4, 4))
    batch = next(stream)
    stream.close()
    assert batch["image"].shape == (3, 4, 4, 4, 2) and batch["label"].shape == (3, 4, 4, 4)


def test_tensorflow_is_never_imported(tmp_path):
    folder = write_tfds(make_source(2), tmp_path, "organs")
    code = (
        "import sys; from jaxmedgen.data.tfds_source import TfdsSource\n"
        f"source = TfdsSource({str(folder)!r}); source[1]\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_what_cannot_be_read_or_written_is_explained(tmp_path):
    folder = write_tfds(make_source(2), tmp_path, "organs")
    with pytest.raises(DataError, match="split 'validation' cannot be read"):
        TfdsSource(folder, "validation")
    with pytest.raises(DataError, match="neither 'scan' nor 'mask'"):
        TfdsSource(folder, image_key="scan", label_key="mask")
    with pytest.raises(DataError, match="no TFDS data set"):
        TfdsSource(tmp_path / "nothing")
    with pytest.raises(DataError, match="exists already"):
        write_tfds(make_source(2), tmp_path, "organs")
    with pytest.raises(DataError, match="not a data set name"):
        write_tfds(make_source(2), tmp_path, "My Organs")
    mixed = make_source(2)
    del mixed.records[1]["label"]
    with pytest.raises(DataError, match=r"case 1: has \['image'\]"):
        write_tfds(mixed, tmp_path, "mixed")
