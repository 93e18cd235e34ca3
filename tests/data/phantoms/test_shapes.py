import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from jaxmedgen.data.phantoms import Shapes
from jaxmedgen.data.sources import Source


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(
    shape=st.one_of(st.tuples(*[st.integers(16, 48)] * 2), st.tuples(*[st.integers(16, 32)] * 3)),
    seed=st.integers(0, 1000),
    index=st.integers(0, 9),
)
def test_every_sample_shows_both_shapes_brighter_than_background(shape, seed, index):
    source = Shapes(10, shape, seed, channels=2)
    assert isinstance(source, Source)
    record = source[index]
    image, label = record["image"], record["label"]
    assert image.shape == (*shape, 2) and image.dtype == np.float32
    assert label.shape == shape and label.dtype == np.int32
    means = np.stack([image[label == k].mean(0) for k in range(3)])
    assert (np.diff(means[:, 0]) > 0).all() and (np.diff(means[:, 1]) < 0).all()
    again = Shapes(10, shape, seed, channels=2)[index]
    np.testing.assert_array_equal(image, again["image"])


def test_samples_differ_and_start_shifts_them():
    source = Shapes(8, (24, 24))
    labels = [source[i]["label"] for i in range(8)]
    assert all((labels[0] != other).any() for other in labels[1:])
    shifted = Shapes(3, (24, 24), start=5)
    np.testing.assert_array_equal(shifted[0]["image"], source[5]["image"])
    assert source.info.class_names == ("background", "ellipse", "box")
    assert shifted.info.case_names[0] == source.info.case_names[5]


def test_areas_follow_the_half_axes():
    # Mean ellipse area is pi * E[a]^2, mean box area 4 E[a]^2 / 1.44, E[a] = 0.31 half-widths.
    source = Shapes(200, (64, 64))
    areas = np.mean([np.bincount(source[i]["label"].ravel(), minlength=3) for i in range(200)], 0)
    unit = (63 / 2) ** 2
    np.testing.assert_allclose(areas[1] / unit, np.pi * 0.31**2, rtol=0.06)
    np.testing.assert_allclose(areas[2] / unit, 4 * 0.31**2 / 1.44, rtol=0.06)


@pytest.mark.parametrize("bad", [{"shape": (8,)}, {"shape": (8, 2)}, {"channels": 0}])
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match="give"):
        Shapes(1, **bad)


def test_index_outside():
    with pytest.raises(IndexError, match="sample 3 of 3"):
        Shapes(3)[3]
