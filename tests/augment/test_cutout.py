import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.cutout import Cutout, apply_cutout, box_mask, sample_cutout


def _keys(n):
    return jax.random.split(jax.random.key(0), n)


def test_draws_are_uniform_within_their_ranges():
    settings = Cutout(boxes=(1, 3), side=(0.1, 0.4), p=0.5)
    drawn = sample_cutout(settings, _keys(3000), 3)
    count = np.asarray(drawn["count"])
    assert (count > 0).mean() == pytest.approx(0.5, abs=0.03)
    shares = np.bincount(count, minlength=4)[1:] / (count > 0).sum()
    np.testing.assert_allclose(shares, 1 / 3, atol=0.04)
    histogram, _ = np.histogram(drawn["side"], bins=6, range=(0.1, 0.4))
    np.testing.assert_allclose(histogram / histogram.sum(), 1 / 6, atol=0.01)
    assert histogram.sum() == drawn["side"].size
    assert drawn["centre"].shape == (3000, 3, 3)


def test_boxes_are_cut_and_clipped():
    # Centre voxel 0 of 10, side 4: from -2 to 1, of which two are left; voxel 5: from 3 to 6.
    mask = box_mask(jnp.asarray([[0.0, 0.5]]), jnp.asarray([[4.0, 4.0]]), (10, 10))
    expected = np.zeros((10, 10), bool)
    expected[:2, 3:7] = True
    np.testing.assert_array_equal(mask[0], expected)
    assert int(mask.sum()) == 8


@pytest.mark.parametrize("label,value", [("keep", 2), ("background", 0), ("ignore", 255)])
def test_labels_in_the_hole_follow_the_setting(label, value):
    settings = Cutout(boxes=(2, 2), p=1.0, label=label, ignore_label=255)
    image, before = jnp.ones((6, 20, 20, 2)), jnp.full((6, 20, 20), 2)
    out, after = apply_cutout(settings, sample_cutout(settings, _keys(6), 2), image, before)
    hole = np.asarray(out[..., 0] == 0)
    assert hole.any((1, 2)).all() and not hole.all((1, 2)).any()
    np.testing.assert_array_equal(out[..., 0], out[..., 1])
    assert set(np.unique(np.asarray(after)[hole])) == {value}
    assert set(np.unique(np.asarray(after)[~hole])) == {2}


def test_a_sample_without_boxes_stays_and_noise_fills():
    settings = Cutout(p=0.5, fill="noise")
    image = jnp.full((32, 16, 16, 1), 50.0)
    drawn = sample_cutout(settings, _keys(32), 2)
    out, _ = apply_cutout(settings, drawn, image, jnp.zeros((32, 16, 16), int))
    changed = np.asarray((out != image).any((1, 2, 3)))
    np.testing.assert_array_equal(changed, np.asarray(drawn["count"]) > 0)
    noise = np.asarray(out)[np.asarray(out) != 50.0]
    assert noise.std() == pytest.approx(1.0, abs=0.1)


def test_uniform_noise_fills_between_the_least_and_the_largest_value():
    image = jnp.stack([jnp.full((4, 32, 32), 3.0), jnp.zeros((4, 32, 32))], -1)
    image = image.at[:, 0, 0].set(jnp.asarray([7.0, -1.0]))
    settings = Cutout(boxes=(1, 1), side=(0.5, 0.5), p=1.0, fill="uniform")
    out, _ = apply_cutout(
        settings, sample_cutout(settings, _keys(4), 2), image, jnp.zeros((4, 32, 32), int)
    )
    hole = np.asarray((out != image).any(-1))
    for channel, (low, high) in enumerate(((3.0, 7.0), (-1.0, 0.0))):
        noise = np.asarray(out)[hole][:, channel]
        assert low <= noise.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < noise.max() <= high
        assert noise.std() == pytest.approx((high - low) / np.sqrt(12), rel=0.1)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="fill 'mean' is unknown"):
        Cutout(fill="mean")
    with pytest.raises(ValueError, match="needs the ignore_label"):
        Cutout(label="ignore")
    with pytest.raises(ValueError, match=r"boxes \(0, 2\)"):
        Cutout(boxes=(0, 2))
    with pytest.raises(ValueError, match=r"side \(0.5, 0.2\)"):
        Cutout(side=(0.5, 0.2))
