"""Digits from IDX files: contents, poses, and files that are not right."""

import gzip

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config
from jaxmedgen.data.mnist import Digits, digit_parts, read_digits


def idx(array):
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">i4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    """Five pictures, each a bright square above and left of the centre."""
    images = np.zeros((5, 28, 28), np.uint8)
    images[:, 6:12, 8:14] = 255
    with gzip.open(tmp_path / "t10k-images-idx3-ubyte.gz", "wb") as file:
        file.write(idx(images))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(5)))
    return tmp_path


def test_digits_are_where_their_factors_say(folder):
    source = Digits(str(folder), 1, 4)
    for k in range(4):
        record = source[k]
        digit, angle, *shift = record["factors"]
        assert digit == k + 1
        assert abs(angle) <= np.deg2rad(20) and np.abs(shift).max() <= 0.1
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        expected = turn @ (np.array([8.5, 10.5]) - 13.5) + 13.5 + 28 * np.array(shift)
        ink = record["image"][..., 0]
        found = [(ink.sum(1 - i) * np.arange(28)).sum() / ink.sum() for i in (0, 1)]
        np.testing.assert_allclose(found, expected, atol=0.1)
        np.testing.assert_array_equal(source[k]["image"], record["image"])


def test_broken_folders_are_refused(folder):
    with pytest.raises(ValueError, match="has 5"):
        Digits(str(folder), 3, 4)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x09abc")
    read_digits.cache_clear()
    with pytest.raises(ValueError, match="header says"):
        Digits(str(folder), 0, 1)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match="do not belong together"):
        Digits(str(folder), 0, 1)
    with pytest.raises(ValueError, match="holds no MNIST files"):
        Digits(str(folder / "nowhere"), 0, 1)


def write(folder, part, labels):
    """Digits whose first pixel is their number in the file."""
    images = np.zeros((len(labels), 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(len(labels))
    (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.asarray(labels)))


def settings(folder, **more):
    plain = {"rotation": 0.0, "shift": 0.0, "balanced": True, "seed": 0, "test": -1}
    return ConfigDict(plain | {"folder": str(folder), "train": 4, "validation": 2} | more)


def contents(parts):
    return [[(int(r["kind"]), round(255 * float(r["image"][0, 0, 0]))) for r in (part[i] for i in
             range(len(part)))] for part in parts]  # fmt: skip


def test_classes_share_the_training_digits_and_the_rest_is_for_tests(tmp_path):
    """Labels 0 0 0 0 1 0 1 1 0 1: the first two of each class train, the third validates."""
    read_digits.cache_clear()
    write(tmp_path, "t10k", [0, 0, 0, 0, 1, 0, 1, 1, 0, 1])
    train, validation, test = contents(digit_parts(settings(tmp_path)))
    assert train == [(0, 0), (0, 1), (1, 4), (1, 6)] and validation == [(0, 2), (1, 7)]
    assert test == [(0, 3), (0, 5), (0, 8), (1, 9)]
    as_they_come = contents(digit_parts(settings(tmp_path, balanced=False)))
    assert [len(part) for part in as_they_come] == [4, 2, 4]
    assert [number for _, number in as_they_come[0]] == [0, 1, 2, 3]
    for wrong, said in (
        ({"train": 3}, "multiples of the 2 classes"),
        ({"train": 8}, "8 digits to train with by class and 2 others"),
        ({"test": 5}, r"4 others to test on: .*-1: all that are left"),
    ):
        with pytest.raises(ValueError, match=said):
            digit_parts(settings(tmp_path, **wrong))
    read_digits.cache_clear()
    write(tmp_path, "train", [1, 0, 1, 0, 1, 0, 0, 1])
    parts = contents(digit_parts(settings(tmp_path)))
    assert parts[0] == [(1, 0), (0, 1), (1, 2), (0, 3)] and len(parts[2]) == 10


def test_digits_are_plain_but_for_models_of_their_pose():
    plain = [load_config(name).data for name in ("rhvae:gpu", "vae:cpu,data=mnist")]
    assert all(data.rotation == 0 and data.shift == 0 for data in plain)
    posed = load_config("it_vae:cpu,data=mnist").data
    assert posed.rotation == 20 and posed.shift == 0.1
