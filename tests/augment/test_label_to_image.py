import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.label_to_image import LabelToImage
from jaxmedgen.augment.spatial import Spatial

OFF = Draw(0.0, 0.0, p=0.0)
# Nothing but a contrast: still anatomy, no scanner.
PLAIN = LabelToImage(
    spacing=(1.0, 1.0, 1.0),
    spatial=Spatial(spacing=(1.0, 1.0, 1.0)),
    background_regions=0,
    strip_probability=1.0,
    deviation=(0.0, 0.0),
    partial_volume=OFF,
    bias=OFF,
    gamma=0.0,
    thickness=Draw(1.0, 1.0, p=0.0),
    noise=OFF,
    normalization="minmax",
)


def _keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def _label(batch=4, axes=3, size=24):
    """Nested boxes: background, 1, 2, 3 and, in a corner of the outer box, an ignore label."""
    label = np.zeros((batch, *(size,) * axes), np.int32)
    for value, margin in ((1, 4), (2, 7), (3, 9)):
        label[(slice(None), *(slice(margin, -margin),) * axes)] = value
    label[(slice(None), *(slice(4, 6),) * axes)] = 255
    return jnp.asarray(label)


@pytest.mark.parametrize("axes", [2, 3])
def test_defaults_give_normalised_images_and_the_deformed_label(axes):
    synthesise = jax.jit(LabelToImage(spacing=(1.0, 1.5, 2.0)[:axes]))
    label = _label(axes=axes)
    image, moved = synthesise(_keys(4), label)
    assert image.shape == (*label.shape, 1) and image.dtype == jnp.float32
    assert moved.dtype == jnp.int32 and set(np.unique(moved)) <= {0, 1, 2, 3, 255}
    space = tuple(range(1, axes + 2))
    np.testing.assert_allclose(image.mean(space), 0.0, atol=1e-4)
    np.testing.assert_allclose(image.std(space), 1.0, atol=1e-3)
    assert not np.array_equal(moved, label)
    order = np.array([2, 0, 3, 1])
    again, again_label = synthesise(_keys(4)[order], label[order])
    np.testing.assert_allclose(again, image[order], atol=1e-4)
    np.testing.assert_array_equal(again_label, moved[order])


def test_each_label_has_one_random_intensity_a_sample():
    label = _label(batch=8)
    image, moved = jax.jit(PLAIN)(_keys(8), label)
    image = np.asarray(image)[..., 0]
    np.testing.assert_array_equal(moved, label)
    means = []
    for b in range(8):
        values = [np.unique(image[b][np.asarray(label[b]) == k]) for k in (0, 1, 2, 3, 255)]
        assert all(np.ptp(v) < 1e-6 for v in values)
        assert values[0] == 0  # stripped
        means.append([v[0] for v in values[1:]])
    assert (np.std(means, 0) > 0.05).all()


def test_target_of_maps_generation_labels_and_keeps_ignore_values():
    settings = dataclasses.replace(PLAIN, target_of=(0, 1, 1, 2))
    label = _label()
    _, target = jax.jit(settings)(_keys(4), label)
    table = np.arange(256)
    table[:4] = (0, 1, 1, 2)
    np.testing.assert_array_equal(target, table[np.asarray(label)])


def test_contrast_means_hold_every_label_in_its_range():
    ranges = ((0.0, 0.0), (0.9, 1.0), (0.5, 0.6), (0.1, 0.2))
    settings = dataclasses.replace(PLAIN, contrast_means=ranges)
    label = jnp.where(_label(batch=16) == 255, 1, _label(batch=16))
    image = np.asarray(jax.jit(settings)(_keys(16), label)[0])[..., 0]
    for value, low, high in ((2, 0.5 / 1.0, 0.6 / 0.9), (3, 0.1 / 1.0, 0.2 / 0.9)):
        at = image[np.asarray(label) == value]
        assert at.min() >= low - 1e-3 and at.max() <= high + 1e-3


def test_swapped_and_shared_labels_have_one_contrast():
    sides = Spatial(spacing=(1.0,) * 3, flip_axes=(0,), swap_labels=((1, 2),))
    settings = dataclasses.replace(PLAIN, spatial=sides, shared_contrasts=((1, 3),))
    image, moved = jax.jit(settings)(_keys(4), _label())
    image, moved = np.asarray(image)[..., 0], np.asarray(moved)
    for b in range(4):
        # Swapped sides: a flipped sample has 1 and 2 exchanged; all three look alike.
        assert np.ptp(image[b][(moved[b] > 0) & (moved[b] < 255)]) < 1e-6
    assert len({int(m[12, 4, 12]) for m in moved}) == 2


def test_thick_slices_blur_one_axis_or_all():
    settings = dataclasses.replace(
        PLAIN, deviation=(0.3, 0.3), thickness=Draw(4.0, 4.0), strip_probability=0.0
    )
    label = jnp.ones((24, 24, 24, 24), jnp.int32)
    image = np.asarray(jax.jit(settings)(_keys(24), label)[0])[..., 0]
    rough = np.stack([np.square(np.diff(image, axis=d)).mean((1, 2, 3)) for d in (1, 2, 3)], -1)
    one = (rough < 0.3 * rough.max(1, keepdims=True)).sum(1) == 1
    every = rough.max(1) < 2 * rough.min(1)
    assert one.sum() + every.sum() == 24 and one.sum() > every.sum() > 0
    assert len(set(rough[one].argmin(1))) == 3


def test_stripped_samples_are_clean_outside_and_others_hold_tissue():
    settings = LabelToImage(spacing=(1.0,) * 3, spatial=PLAIN.spatial, strip_probability=0.5)
    image, _ = jax.jit(settings)(_keys(16), _label(batch=16))
    corner = np.asarray(image)[:, :2, :2, :2, 0].reshape(16, -1)
    clean = np.ptp(corner, 1) == 0
    assert 3 <= clean.sum() <= 13


def test_synthesis_shards_like_any_batch():
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    synthesise = jax.jit(LabelToImage(spacing=(2.0, 2.0, 2.0)))
    keys, label = _keys(4), _label(size=20)
    image, moved = synthesise(keys, label)
    mesh = Mesh(np.asarray(jax.devices()).reshape(4, 2), ("data", "space"))
    put = [
        jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
        for x, spec in ((keys, ("data",)), (label, ("data", "space")))
    ]
    sharded, sharded_label = synthesise(*put)
    np.testing.assert_allclose(sharded, image, atol=1e-3)
    np.testing.assert_array_equal(sharded_label, moved)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="normalization 'robust' is unknown"):
        LabelToImage(spacing=(1.0, 1.0), normalization="robust")
    with pytest.raises(ValueError, match="3 contrast_means for 2 labels: raise labels"):
        LabelToImage(spacing=(1.0, 1.0), labels=2, contrast_means=((0, 1),) * 3)
    with pytest.raises(ValueError, match="for spacing"):
        LabelToImage(spacing=(1.0, 1.0), spatial=Spatial(spacing=(1.0,) * 3))
