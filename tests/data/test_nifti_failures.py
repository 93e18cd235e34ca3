"""Broken files and full disks."""

import errno
import gzip
import os

import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.data.nifti import DataError, read_volume, write_like
from tests.data.test_nifti import make_file


def raw_file(path, change, data=None, affine=None):
    image = nib.Nifti1Image(
        np.zeros((4, 4, 4), np.float32) if data is None else data,
        np.eye(4) if affine is None else affine,
    )
    payload = bytearray(image.to_bytes())
    change(payload)
    path.write_bytes(payload)
    return path


def poke(offset, values, dtype):
    def change(payload):
        raw = np.asarray(values, dtype).tobytes()
        payload[offset : offset + len(raw)] = raw

    return change


def nothing(payload):
    del payload


def test_each_kind_of_broken_file_is_named_in_one_line(tmp_path):
    good = make_file(tmp_path / "good.nii.gz").read_bytes()
    rng = np.random.default_rng(0)
    noise = make_file(tmp_path / "noise.nii.gz", values=rng.normal(size=(5, 6, 7))).read_bytes()
    flipped = bytearray(noise)
    flipped[len(flipped) // 2] ^= 0xFF
    nan, inf = np.zeros((3, 3, 3), np.float32), np.zeros((3, 3, 3), np.float32)
    nan[0, 0, 0], inf[1, 1, 1] = np.nan, np.inf
    cases = {
        "missing.nii.gz": (None, "no such file"),
        "empty.nii.gz": (b"", "empty"),
        "text.nii.gz": (b"not an image at all" * 99, "not a readable NIfTI"),
        "text.nii": (b"not an image at all" * 99, "not a readable NIfTI"),
        "scan.png": (good, "not a NIfTI file name"),
        "cut.nii.gz": (good[:-40], "truncated or damaged"),
        "header_only.nii.gz": (gzip.compress(gzip.decompress(good)[:352]), "truncated"),
        "flipped.nii.gz": (bytes(flipped), "truncated or damaged|not a readable"),
    }
    files = {}
    for name, (payload, message) in cases.items():
        if payload is not None:
            (tmp_path / name).write_bytes(payload)
        files[tmp_path / name] = message
    raw = {
        "cut.nii": (lambda p: p.__delitem__(slice(-10, None)), None, None, "truncated"),
        "bomb.nii": (poke(42, [30000] * 3, "<i2"), None, None, "truncated: the header announces"),
        "nan.nii": (nothing, nan, None, "1 voxels are NaN"),
        "inf.nii": (nothing, inf, None, "1 voxels are NaN"),
        "zero.nii": (poke(80, [0.0], "<f4"), None, None, "spacing .* is not positive"),
        "negative.nii": (poke(84, [-2.0], "<f4"), None, None, "spacing .* is not positive"),
        "flat.nii": (poke(280, [0.0] * 4, "<f4"), None, None, "cannot be inverted"),
        "nanaffine.nii": (poke(280, [np.nan], "<f4"), None, None, "affine has NaN"),
        "complex.nii": (nothing, np.zeros((3, 3, 3), np.complex64), None, "colour or complex"),
        "five.nii": (nothing, np.zeros((3, 3, 3, 2, 2), np.float32), None, "5 axes"),
    }
    for name, (change, data, affine, message) in raw.items():
        files[raw_file(tmp_path / name, change, data, affine)] = message
    for path, message in files.items():
        with pytest.raises(DataError, match=message) as caught:
            read_volume(path)
        text = str(caught.value)
        assert text.startswith(str(path)) and "\n" not in text and ";" in text


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_full_disk_leaves_no_half_file(tmp_path, monkeypatch, failing):
    volume = read_volume(make_file(tmp_path / "in.nii.gz"))
    (tmp_path / "out.nii.gz").write_bytes(b"older result")

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left on device; free space") as caught:
        write_like(tmp_path / "out.nii.gz", volume.array, volume)
    assert caught.value.errno == errno.ENOSPC and "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.nii.gz", "out.nii.gz"]
    assert (tmp_path / "out.nii.gz").read_bytes() == b"older result"


def test_a_device_that_fills_up_while_writing(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    from jaxmedgen.data.atomic import write_atomically

    def write(file):
        with open("/dev/full", "wb") as full:
            full.write(b"x" * 100_000)

    with pytest.raises(OSError, match=r"cannot write .*a.bin: No space left"):
        write_atomically(tmp_path / "a.bin", write)
    assert not list(tmp_path.iterdir())
