import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmedgen.data import patches


def make_record(shape=(12, 14, 10)):
    coordinates = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    label = np.zeros(shape, np.int32)
    label[2:4, 2:4, 2:4] = 1
    label[8:12, 9:14, 5:10] = 3
    return {"image": coordinates.astype(np.float32), "label": label}


def test_class_locations_find_every_voxel_or_an_even_subset():
    label = make_record()["label"]
    found = patches.class_locations(label)
    assert sorted(found) == [1, 3]
    for value in found:
        np.testing.assert_array_equal(found[value], np.flatnonzero(label == value))
    thinned = patches.class_locations(label, limit=7)[3]
    assert len(thinned) == 7 and np.all(label.reshape(-1)[thinned] == 3)
    assert thinned[0] == found[3][0] and thinned[-1] == found[3][-1]
    assert patches.class_locations(np.zeros((3, 3), np.int32)) == {}


def test_image_and_label_are_cut_at_the_same_place():
    record = make_record()
    for seed in range(20):
        patch = patches.random_patch(record, (5, 4, 6), np.random.default_rng(seed))
        assert patch["image"].shape == (5, 4, 6, 3) and patch["label"].shape == (5, 4, 6)
        where = tuple(patch["image"].astype(int).reshape(-1, 3).T)
        np.testing.assert_array_equal(record["label"][where], patch["label"].reshape(-1))


def test_equal_generators_give_equal_patches_and_copies():
    record = make_record()
    a = patches.random_patch(record, (5, 4, 6), np.random.default_rng(7))
    b = patches.random_patch(record, (5, 4, 6), np.random.default_rng(7))
    np.testing.assert_array_equal(a["image"], b["image"])
    a["label"][:] = 9
    assert record["label"].max() == 3


def test_foreground_share_and_even_classes():
    # Two one-voxel classes, far apart in a big volume: chance hits are rare and computable.
    label = np.zeros((40, 40, 40), np.int32)
    label[5, 5, 5], label[30, 30, 30] = 1, 2
    record = {"label": label}
    rng = np.random.default_rng(0)
    n, p = 3000, 0.4
    hits = [
        set(
            np.unique(
                patches.random_patch(record, (4, 4, 4), rng, foreground_probability=p)["label"]
            )
        )
        for _ in range(n)
    ]
    share = [sum(c in h for h in hits) / n for c in (1, 2)]
    chance = (4 / 37) ** 3 * (1 - p)
    for s in share:
        expected = p / 2 + chance
        assert abs(s - expected) < 4 * np.sqrt(expected * (1 - expected) / n)
    none = [
        patches.random_patch(record, (4, 4, 4), rng, foreground_probability=0.0) for _ in range(99)
    ]
    assert sum(p["label"].any() for p in none) < 3
    every = [
        patches.random_patch(record, (4, 4, 4), rng, foreground_probability=1.0) for _ in range(99)
    ]
    assert all(p["label"].any() for p in every)


def test_uniform_patches_reach_every_start():
    starts = {patches.patch_start((6, 5), (4, 3), np.random.default_rng(s)) for s in range(300)}
    assert starts == {(i, j) for i in range(3) for j in range(3)}


def test_small_volumes_are_centred_and_padded_with_their_lowest_value():
    image = np.full((3, 20, 4, 2), 5.0, np.float32)
    image[..., 1] = -7.0
    image[0, 0, 0, 0] = -1.0
    label = np.ones((3, 20, 4), np.int32)
    patch = patches.random_patch(
        {"image": image, "label": label}, (7, 8, 4), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(patch["label"][2:5], 1)
    assert not patch["label"][:2].any() and not patch["label"][5:].any()
    assert np.all(patch["image"][:2, ..., 0] == -1) and np.all(patch["image"][5:, ..., 1] == -7)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    size=st.integers(1, 11),
    seed=st.integers(0, 99),
)
def test_patch_always_has_the_asked_shape(shape, size, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, shape).astype(np.int32)
    patch = patches.random_patch({"label": label}, [size] * len(shape), rng)
    assert patch["label"].shape == (size,) * len(shape)
    if all(n <= size for n in shape):
        assert np.count_nonzero(patch["label"]) == np.count_nonzero(label)


def test_bad_settings_are_refused():
    record = make_record()
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="patch size"):
        patches.random_patch(record, (4, 4), rng)
    with pytest.raises(ValueError, match="outside \\[0, 1\\]"):
        patches.random_patch(record, (4, 4, 4), rng, foreground_probability=1.5)
    with pytest.raises(ValueError, match="needs 'image' or 'label'"):
        patches.random_patch({}, (4, 4, 4), rng)
