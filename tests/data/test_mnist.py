"""Digits from IDX files: contents, poses, and files that are not right."""

import gzip

import numpy as np
import pytest

from jaxmedgen.data.mnist import Digits, read_digits


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
