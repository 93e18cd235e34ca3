"""Groupwise registration: a system that knows the shifts brings everything together."""

import dataclasses
import json

import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from jaxmedgen.data.sources import ArraySource, DatasetInfo
from jaxmedgen.experiments.groupwise import evaluate_alignment

_SHIFTS = np.array([[0, 0], [3, -2], [-4, 1]])


@dataclasses.dataclass(frozen=True)
class Shifter:
    """Undoes the known shifts."""

    def align(self, variables, image):
        del variables
        field = jnp.asarray(_SHIFTS, jnp.float32)[:, None, None]
        there = jnp.broadcast_to(field, (*image.shape[:-1], 2))
        return there, -there


def shifted():
    """A box that stands elsewhere in each of three images."""
    records = []
    for row, column in _SHIFTS:
        label = np.zeros((32, 32), np.int32)
        label[10 + row : 20 + row, 12 + column : 18 + column] = 1
        records.append({"image": label[..., None].astype(np.float32), "label": label})
    names = ("a", "b", "c")
    return ArraySource(records, DatasetInfo(("background", "box"), ("image",), (2.0, 2.0), names))


def test_known_shifts_are_undone(tmp_path):
    found = evaluate_alignment(Shifter(), {}, shifted(), tmp_path, Console(quiet=True), step=7)
    assert found.dice_before < 0.5
    assert found.dice_after == pytest.approx(1)
    assert found.deviation_after == pytest.approx(0, abs=1e-6) and found.deviation_before > 0.05
    assert found.folding == 0
    assert found.inverse_error == pytest.approx(0, abs=1e-5)
    written = json.loads((tmp_path / "alignment.json").read_text())
    assert written["step"] == 7 and written["dice_after"] == found.dice_after
    first = nib.load(tmp_path / "aligned" / "images" / "b.nii.gz")
    np.testing.assert_allclose(first.header.get_zooms()[:2], 2)
    assert np.squeeze(first.get_fdata())[10:20, 12:18].min() == 1


def test_a_group_has_two(tmp_path):
    one = ArraySource(shifted().records[:1], dataclasses.replace(shifted().info, case_names=("a",)))
    with pytest.raises(ValueError, match="two or more"):
        evaluate_alignment(Shifter(), {}, one, tmp_path, Console(quiet=True), step=0)
