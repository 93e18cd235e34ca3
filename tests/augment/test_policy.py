import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmedgen.augment.presets import NAMES, preset


def _batch(shape=(12, 10, 8), batch=8, channels=2):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(batch, *shape, channels)).astype(np.float32)
    label = rng.integers(0, 4, size=(batch, *shape)).astype(np.int32)
    label[:, 3, 3] = 255
    return jax.random.split(jax.random.key(0), batch), jnp.asarray(image), jnp.asarray(label)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axes", [2, 3])
def test_presets_keep_shape_type_values_and_randomness_per_sample(name, axes):
    keys, image, label = _batch((12, 10, 8)[:axes])
    augment = jax.jit(preset(name, (1.0, 1.5, 2.0)[:axes]))
    moved, moved_label = augment(keys, image, label)
    assert moved.shape == image.shape and moved.dtype == jnp.float32
    assert moved_label.shape == label.shape and moved_label.dtype == jnp.int32
    assert bool(jnp.isfinite(moved).all())
    assert set(np.unique(moved_label)) <= set(np.unique(label))
    if name == "none":
        np.testing.assert_array_equal(moved, image)
        return
    assert not np.array_equal(moved, image)
    again, _ = augment(keys, image, label)
    np.testing.assert_array_equal(moved, again)
    order = np.array([5, 0, 7, 1, 2, 3, 4, 6])
    shuffled, shuffled_label = augment(keys[order], image[order], label[order])
    np.testing.assert_allclose(shuffled, moved[order], atol=2e-5)
    np.testing.assert_array_equal(shuffled_label, moved_label[order])


@pytest.mark.parametrize("name", ["classic", "diffeomorphic"])
def test_sharded_batch_gives_the_same_numbers(name):
    keys, image, label = _batch(shape=(8, 8, 8))
    augment = preset(name, (1.0, 1.0, 1.0))
    plain, plain_label = jax.jit(augment)(keys, image, label)
    mesh = Mesh(np.asarray(jax.devices()).reshape(4, 2), ("data", "space"))

    def put(x, *spec):
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))

    args = put(keys, "data"), put(image, "data", "space"), put(label, "data", "space")
    sharded, sharded_label = jax.jit(augment)(*args)
    np.testing.assert_allclose(sharded, plain, atol=2e-5)
    np.testing.assert_array_equal(sharded_label, plain_label)


def test_drawn_parameters_replay_the_call():
    keys, image, label = _batch()
    augment = preset("classic_brats", (1.0, 1.0, 1.0))
    drawn = augment.sample_parameters(keys, 2, 3)
    assert set(drawn) == {"spatial", "intensity"}
    np.testing.assert_array_equal(
        augment.apply(drawn, image, label)[0], augment(keys, image, label)[0]
    )


def test_flip_axes_and_swapped_labels_reach_the_spatial_stage():
    assert preset("classic", (1.0, 1.0)).spatial.flip_axes == (0, 1)
    assert preset("light", (1.0, 1.0, 1.0), left_right_axis=2).spatial.flip_axes == (2,)
    chosen = preset("classic", (1, 1, 1), flip_axes=(), swap_labels=[(1, 2)])
    assert chosen.spatial.flip_axes == () and chosen.spatial.swap_labels == ((1, 2),)


def test_unknown_preset_names_the_nearest():
    with pytest.raises(ValueError, match="'clasic' is unknown: did you mean 'classic'"):
        preset("clasic", (1.0, 1.0))
