import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmedgen.augment.policy import apply_ramped
from jaxmedgen.augment.presets import NAMES, preset

INSIDE = ("none", "manifold_mixup", "moex_in", "moex_pono")
"""What does nothing to images, for the network does it."""

SHEET = (
    "affine elastic elastic_noise diffeo geodesic gamma bias mixup cutout cutmix moex_in moex_pono "
    "nnunet3d nnunet_brats genseg2d"
).split()


def _batch(shape=(12, 10, 8), batch=8, channels=2):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(batch, *shape, channels)).astype(np.float32)
    label = rng.integers(0, 4, size=(batch, *shape)).astype(np.int32)
    label[:, 3, 3] = 255
    return jax.random.split(jax.random.key(0), batch), jnp.asarray(image), jnp.asarray(label)


@pytest.mark.parametrize("axes", [2, 3])
def test_every_preset_keeps_shape_and_type(axes):
    keys, image, label = _batch((12, 10, 8)[:axes])
    for name in NAMES:
        augment = preset(name, (1.0, 1.5, 2.0)[:axes], classes=4)
        moved, moved_label = jax.eval_shape(augment, keys, image, label)
        assert moved.shape == image.shape and moved.dtype == jnp.float32, name
        soft = name in ("mixup", "interpolation")
        assert moved_label.shape == (*label.shape, *((4,) if soft else ())), name
        assert moved_label.dtype == (jnp.float32 if soft else jnp.int32), name
        if name in INSIDE:
            np.testing.assert_array_equal(augment(keys, image, label)[0], image)


@pytest.mark.parametrize(
    "name,axes",
    [
        ("nnunet3d", 3),
        ("deformation+geodesic+elastic_noise+cutmix", 2),
        ("nnunet_brats+carvemix", 2),
        ("genseg2d+mixup", 2),
    ],
)
def test_every_sample_depends_on_its_own_key_and_partner(name, axes):
    keys, image, label = _batch((12, 10, 8)[:axes])
    augment = jax.jit(preset(name, (1.0, 1.5, 2.0)[:axes], classes=4))
    moved, moved_label = augment(keys, image, label)
    assert bool(jnp.isfinite(moved).all()) and not np.array_equal(moved, image)
    if moved_label.ndim == label.ndim:
        assert set(np.unique(moved_label)) <= set(np.unique(label)) | {0}
    order = np.array([5, 0, 7, 1, 2, 3, 4, 6])
    shuffled, shuffled_label = augment(keys[order], image[order], label[order])
    np.testing.assert_allclose(shuffled, moved[order], atol=2e-5)
    np.testing.assert_allclose(shuffled_label, moved_label[order], atol=1e-6)


def test_the_sheets_presets_are_there():
    assert set(SHEET) <= set(NAMES)
    assert preset("classic", (1.0, 1.0)) == preset("nnunet3d", (1.0, 1.0))
    cube = (1.0, 1.0, 1.0)
    assert preset("elastic_noise", cube).spatial.elastic_noise.high == 900
    assert preset("moex_pono", cube).moment_exchange.weight == 0.9
    assert preset("affine", cube).spatial.affine_p == 0.5
    assert preset("genseg2d", (1.0, 1.0)).spatial.flip_axes == (0, 1)


@pytest.mark.parametrize("name", ["classic", "diffeomorphic+mixup"])
def test_sharded_batch_gives_the_same_numbers(name):
    keys, image, label = _batch(shape=(8, 8, 8))
    augment = preset(name, (1.0, 1.0, 1.0), classes=4)
    plain, plain_label = jax.jit(augment)(keys, image, label)
    mesh = Mesh(np.asarray(jax.devices()).reshape(4, 2), ("data", "space"))

    def put(x, *spec):
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))

    args = put(keys, "data"), put(image, "data", "space"), put(label, "data", "space")
    sharded, sharded_label = jax.jit(augment)(*args)
    np.testing.assert_allclose(sharded, plain, atol=2e-5)
    np.testing.assert_allclose(sharded_label, plain_label, atol=1e-6)
    assert not np.array_equal(plain, image)


def test_drawn_parameters_replay_the_call():
    keys, image, label = _batch((8, 6, 5))
    augment = preset("affine+gamma+corruption", (1.0, 1.0, 1.0))

    @jax.jit
    def both(keys, image, label):
        drawn = augment.sample_parameters(keys, 2, 3)
        assert set(drawn) == {"spatial", "intensity", "cutout", "mixing"}
        return augment.apply(drawn, image, label), augment(keys, image, label)

    replays, calls = both(keys, image, label)
    for replayed, expected in zip(replays, calls):
        np.testing.assert_array_equal(replayed, expected)
    assert not np.array_equal(calls[0], image)


def test_joined_presets_have_the_stages_of_both():
    joined = preset("affine+elastic+gamma+bias+cutout+moex_in", (1.0, 1.0))
    assert joined.spatial.elastic is not None and joined.spatial.affine_p == 0.5
    assert joined.intensity.gamma is not None and joined.intensity.bias is not None
    assert joined.cutout is not None and joined.moment_exchange is not None
    assert preset("interpolation", (1.0, 1.0), classes=2).feature_mixup is not None
    with pytest.raises(ValueError, match="sets rotation twice"):
        preset("affine+nnunet3d", (1.0, 1.0))


def test_the_background_stays_at_its_value():
    keys, image, label = _batch((12, 10))
    inside = jnp.zeros(label.shape, bool).at[:, 4:8, 3:7].set(True)
    image = jnp.where(inside[..., None], image, 0.0)
    moved, _ = jax.jit(preset("nnunet3d+bias", (1.0, 1.0), background=0.0))(keys, image, label)
    zero = (moved == 0).all(-1)
    assert bool(zero[:, 0].all() & zero[:, -1].all()) and 0.5 < float(zero.mean()) < 0.95
    free, _ = jax.jit(preset("nnunet3d+bias", (1.0, 1.0)))(keys, image, label)
    assert float((free == 0).mean()) < 0.7


def test_a_ramp_augments_a_share_of_the_samples():
    keys, image, label = _batch((4, 4), batch=4000)
    strength = jnp.repeat(jnp.asarray([0.0, 0.3, 1.0, 0.0]), 1000)

    def augment(keys, image, label):
        return image + 100, jax.nn.one_hot(label, 4)

    out, soft = apply_ramped(augment, strength, keys, image, label)
    on = np.asarray((out > 50).all((1, 2, 3))).reshape(4, 1000).mean(1)
    np.testing.assert_allclose(on, [0, 0.3, 1, 0], atol=0.04)
    np.testing.assert_array_equal(out[:1000], image[:1000])
    assert on[0] == on[3] == 0 and soft.shape == (4000, 4, 4, 4)


def test_flip_axes_and_swapped_labels_reach_the_spatial_stage():
    assert preset("classic", (1.0, 1.0)).spatial.flip_axes == (0, 1)
    assert preset("light", (1.0, 1.0, 1.0), left_right_axis=2).spatial.flip_axes == (2,)
    chosen = preset("classic", (1, 1, 1), flip_axes=(), swap_labels=[(1, 2)])
    assert chosen.spatial.flip_axes == () and chosen.spatial.swap_labels == ((1, 2),)


def test_unknown_preset_names_the_nearest():
    with pytest.raises(ValueError, match="'clasic' is unknown: did you mean 'classic'"):
        preset("clasic", (1.0, 1.0))
