import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.spatial import (
    Spatial,
    apply_spatial,
    sample_spatial,
    sampling_coordinates,
)
from jaxmedgen.ops.field_measures import jacobian_determinant

SHAPE = (12, 10, 8)
ALL = Spatial(
    spacing=(1.0, 1.5, 2.0),
    flip_axes=(0, 1, 2),
    rotation=Draw(-30, 30, p=0.7),
    scale=Draw(0.7, 1.4, p=0.7),
    shear=Draw(-5, 5, p=0.7),
    translation=Draw(-0.1, 0.1, p=0.7),
    deformation=Draw(1, 4, p=0.7),
)


def _keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def _label(shape=SHAPE, batch=4, values=(0, 1, 2, 255, -1)):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.choice(np.array(values, np.int32), size=(batch, *shape)))


def _still(settings, batch):
    """Parameters of a policy of which nothing happens."""
    drawn = sample_spatial(settings, _keys(batch))
    return {
        name: jnp.ones_like(value) if name == "scale" else jnp.zeros_like(value)
        for name, value in drawn.items()
        if name != "field_keys"
    } | {"field_keys": drawn["field_keys"]}


def test_zero_strength_is_the_identity():
    label = _label()
    image = jax.random.normal(jax.random.key(1), (*label.shape, 2))
    moved, moved_label = apply_spatial(ALL, _still(ALL, 4), image, label)
    np.testing.assert_allclose(moved, image, atol=2e-5)
    np.testing.assert_array_equal(moved_label, label)


def test_image_and_label_move_alike():
    # Smooth blobs: linear sampling of the mask, cut at one half, is close to its nearest sampling.
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
    blob = np.linalg.norm((grid - np.array([7, 5, 3])) * [1, 1.5, 2], axis=-1) < 5
    label = jnp.asarray(np.stack([blob] * 8), jnp.int32)
    moved, moved_label = apply_spatial(
        ALL, sample_spatial(ALL, _keys(8)), label[..., None].astype(jnp.float32), label
    )
    assert (np.asarray(moved_label) != np.asarray(label)).any((1, 2, 3)).sum() >= 6
    disagree = (moved[..., 0] > 0.5) != (moved_label == 1)
    assert float(disagree.mean()) < 0.03
    # A nearest label is always one of the corners that the linear image mixes.
    assert bool(jnp.all(jnp.where(moved_label == 1, moved[..., 0] > 0, moved[..., 0] < 1)))


def test_label_values_survive_and_outside_is_background():
    label = _label(values=(2, 255, -1))
    moves = Spatial(spacing=(1.0,) * 3, translation=Draw(0.5, 0.5))
    image = label[..., None].astype(jnp.float32) + 5
    moved, moved_label = apply_spatial(moves, sample_spatial(moves, _keys(4)), image, label)
    assert set(np.unique(moved_label)) == {0, 2, 255, -1}
    outside = np.asarray(moved_label) == 0
    assert outside[:, 6:].all() and not outside[:, :6, :5, :4].any()
    np.testing.assert_allclose(np.asarray(moved)[outside], 4.0)


def test_a_shift_looks_where_it_should_with_anisotropic_voxels():
    moves = Spatial(spacing=(1.0, 2.0), translation=Draw(0.25, 0.25))
    x = sampling_coordinates(moves, sample_spatial(moves, _keys(1)), (8, 8))
    np.testing.assert_allclose(x[0, 3, 3], [5.0, 5.0], atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4)])
def test_flips_are_exact_and_swap_sides(shape):
    axes = len(shape)
    flips = Spatial(spacing=(1.0,) * axes, flip_axes=(0,), swap_labels=((1, 2), (3, 4)))
    label = _label(shape, batch=8, values=(0, 1, 2, 3, 4, 5))
    image = label[..., None].astype(jnp.float32)
    drawn = sample_spatial(flips, _keys(8))
    on = np.asarray(drawn["flip"])
    assert 0 < on[:, 0].sum() < 8 and not on[:, 1:].any()
    moved, moved_label = apply_spatial(flips, drawn, image, label)
    swap = np.array([0, 2, 1, 4, 3, 5])
    for b in range(8):
        expected = np.flip(label[b], 0) if on[b, 0] else label[b]
        np.testing.assert_array_equal(moved[b, ..., 0], expected)
        np.testing.assert_array_equal(moved_label[b], swap[expected] if on[b, 0] else expected)


def test_flips_composed_into_coordinates_equal_plain_flips():
    settings = Spatial(spacing=(1.0, 3.0, 2.0), flip_axes=(0, 2), rotation=Draw(0, 0))
    label = _label(batch=6)
    image = jax.random.normal(jax.random.key(0), (*label.shape, 1))
    drawn = sample_spatial(settings, _keys(6))
    moved, moved_label = apply_spatial(settings, drawn, image, label)
    plain = Spatial(spacing=(1.0, 3.0, 2.0), flip_axes=(0, 2))
    flipped, flipped_label = apply_spatial(plain, drawn, image, label)
    np.testing.assert_allclose(moved, flipped, atol=2e-5)
    np.testing.assert_array_equal(moved_label, flipped_label)


def test_cubic_images_and_linear_labels():
    """Cubic sampling of a smooth image is nearer to its formula; labels are the linear argmax."""
    settings = Spatial(
        spacing=(1.0, 1.0), rotation=Draw(-30, 30), deformation=Draw(2, 2), border="reflect"
    )
    drawn, shape = sample_spatial(settings, _keys(4)), (24, 20)
    label = _label(shape, values=(0, 1, 2))

    def wave(x):
        return jnp.cos(np.pi / 23 * 5 * x[..., 0]) * jnp.cos(np.pi / 19 * 4 * x[..., 1])

    grid = jnp.stack(jnp.meshgrid(*map(jnp.arange, shape), indexing="ij"), -1)
    image = jnp.broadcast_to(wave(grid)[None, ..., None], (4, *shape, 1))
    expected = wave(sampling_coordinates(settings, drawn, shape))
    error, moved = {}, {}
    for order in (1, 3):
        chosen = dataclasses.replace(settings, image_order=order, label_order=order % 3)
        out, moved[order] = apply_spatial(chosen, drawn, image, label)
        error[order] = float(jnp.sqrt(jnp.mean((out[..., 0] - expected) ** 2)))
    assert error[3] < 0.2 * error[1]
    one_hot = jax.nn.one_hot(label, 3)
    soft, _ = apply_spatial(settings, drawn, one_hot, label)
    sharp = np.sort(soft, -1)[..., -1] - np.sort(soft, -1)[..., -2] > 1e-4  # no ties
    np.testing.assert_array_equal(np.asarray(moved[1])[sharp], np.argmax(soft, -1)[sharp])
    assert (np.asarray(moved[1]) != np.asarray(moved[3])).any()


def test_deformations_do_not_fold_and_reach_their_amplitude():
    settings = Spatial(spacing=(2.0, 2.0, 2.0), deformation=Draw(4, 4))
    shape = (32, 32, 32)
    drawn = sample_spatial(settings, _keys(4))
    x = sampling_coordinates(settings, drawn, shape)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    u = x - grid
    assert float(jacobian_determinant(u).min()) > 0
    rms = 2 * np.sqrt((np.asarray(u) ** 2).sum(-1).mean())
    assert rms == pytest.approx(4.0, rel=0.25)


def test_draws_keep_to_their_ranges_and_probabilities():
    drawn = sample_spatial(ALL, _keys(2000))
    scale = np.asarray(drawn["scale"])
    assert scale.min() >= 0.7 and scale.max() <= 1.4
    on = (scale != 1).all(1)
    assert on.mean() == pytest.approx(0.7, abs=0.04)
    assert (scale[on] < 1).mean() == pytest.approx(0.5, abs=0.03)
    rotation = np.asarray(drawn["rotation"])
    assert np.abs(rotation).max() <= 30 and np.abs(rotation).max() > 29
    deformation = np.asarray(drawn["deformation"])
    assert set(np.unique(deformation < 1)) == {False, True}
    assert ((deformation == 0) | (deformation >= 1)).all() and deformation.max() <= 4
    assert np.corrcoef(rotation[:, 0], scale[:, 0])[0, 1] == pytest.approx(0, abs=0.1)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="axis 2 does not exist in 2D: use 0 to 1"):
        Spatial(spacing=(1.0, 1.0), flip_axes=(2,))
    with pytest.raises(ValueError, match="give two or three positive sizes"):
        Spatial(spacing=(1.0, -1.0))
    with pytest.raises(ValueError, match="is empty: give low <= high"):
        Draw(1.0, 0.5)
    with pytest.raises(ValueError, match=r"p = 1.5 is no probability"):
        Draw(0.0, 1.0, p=1.5)
    with pytest.raises(ValueError, match="give one size an axis"):
        sampling_coordinates(ALL, _still(ALL, 1), (8, 8))
