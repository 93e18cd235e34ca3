import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmedgen.augment.mixing import Cutmix, Mixing, Mixup, apply_mixing, sample_mixing
from jaxmedgen.augment.pairing import draw_partners


def _keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def _batch(shape=(8, 12, 10), classes=3):
    rng = np.random.default_rng(0)
    label = rng.integers(0, classes, size=shape).astype(np.int32)
    return jnp.asarray(rng.normal(size=(*shape, 2)), jnp.float32), jnp.asarray(label)


def test_mixup_mixes_images_and_labels_alike():
    image, label = _batch()
    settings = Mixing(mixup=Mixup(alpha=0.4, p=0.6), classes=3)
    drawn = sample_mixing(settings, _keys(8), 2)
    out, soft = apply_mixing(settings, drawn, image, label)
    partner, weight = np.asarray(draw_partners(drawn["score"])), np.asarray(drawn["weight"])
    assert 0 < (weight == 1).sum() < 8
    one_hot = np.eye(3, dtype=np.float32)[np.asarray(label)]
    for b in range(8):
        w = weight[b]
        np.testing.assert_allclose(out[b], w * image[b] + (1 - w) * image[partner[b]], atol=1e-6)
        np.testing.assert_allclose(
            soft[b], w * one_hot[b] + (1 - w) * one_hot[partner[b]], atol=1e-6
        )
        if w == 1:
            np.testing.assert_array_equal(out[b], image[b])
    np.testing.assert_allclose(soft.sum(-1), 1.0, atol=1e-6)


def test_weights_are_beta_distributed_and_may_be_dominant():
    drawn = sample_mixing(Mixing(mixup=Mixup(0.4, p=1.0), classes=2), _keys(2000), 2)
    assert stats.kstest(np.asarray(drawn["weight"]), stats.beta(0.4, 0.4).cdf).pvalue > 0.01
    settings = Mixing(mixup=Mixup(0.4, p=1.0, dominant=True), classes=2)
    weight = np.asarray(sample_mixing(settings, _keys(2000), 2)["weight"])
    assert weight.min() >= 0.5 and weight.max() <= 1


@pytest.mark.parametrize("shape,share", [((40, 40), 0.320833), ((24, 24, 24), 0.243676)])
def test_cutmix_pastes_the_share_that_clipping_leaves(shape, share):
    """A box of side r clipped at the image keeps r - r^2/4 of an axis; its mean is analytic."""
    settings = Mixing(cutmix=Cutmix(p=1.0))
    batch = 1000

    def pasted(keys):
        drawn = sample_mixing(settings, keys, len(shape))
        own = jnp.arange(batch).reshape(-1, *(1,) * len(shape)) * jnp.ones(shape)
        image, label = apply_mixing(settings, drawn, own[..., None], own.astype(jnp.int32))
        return jnp.mean(label != own.astype(jnp.int32)), jnp.all(image[..., 0] == label)

    fraction, alike = jax.jit(lambda keys: jax.lax.map(pasted, keys))(
        _keys(10_000).reshape(10, batch)
    )
    assert float(fraction.mean()) == pytest.approx(share, abs=0.01)
    assert bool(alike.all()), "labels are pasted with the image"


def test_carved_regions_follow_the_partners_lesion():
    shape = (20, 20)
    rows, columns = np.meshgrid(*map(np.arange, shape), indexing="ij")
    disc = (rows - 10) ** 2 + (columns - 8) ** 2 <= 25
    label = jnp.asarray(np.stack([disc, np.zeros_like(disc)] * 24), jnp.int32)
    image = label[..., None] * 1.0 + 10 * (jnp.arange(48) + 1)[:, None, None, None]
    settings = Mixing(cutmix=Cutmix(p=1.0, region="lesion"), spacing=(1.0, 1.0))
    drawn = sample_mixing(settings, _keys(48), 2)
    out, out_label = apply_mixing(settings, drawn, image, label)
    partner = np.asarray(draw_partners(drawn["score"]))
    pasted = np.asarray(out // 10 != image // 10)[..., 0]
    distance = np.hypot(rows - 10, columns - 8)
    found = set()
    for b in range(48):
        if partner[b] % 2:  # no lesion to carve
            assert not pasted[b].any()
            continue
        size = 2 * np.sqrt(pasted[b].sum() / np.pi)
        found.add("smaller" if size < 9 else "larger")
        radius = distance[pasted[b]].max()
        assert pasted[b][distance < radius - 1.5].all(), "the region is a disc around the lesion"
        np.testing.assert_array_equal(np.asarray(out_label)[b][pasted[b]], disc[pasted[b]])
    assert found == {"smaller", "larger"}


def test_a_sample_that_draws_both_is_cut():
    image, label = _batch()
    settings = Mixing(mixup=Mixup(p=1.0), cutmix=Cutmix(p=1.0), classes=3)
    drawn = sample_mixing(settings, _keys(8), 2)
    assert bool((drawn["weight"] == 1).all())
    _, soft = apply_mixing(settings, drawn, image, label)
    assert set(np.unique(soft)) == {0.0, 1.0}


def test_settings_are_checked():
    with pytest.raises(ValueError, match="give the number of classes"):
        Mixing(mixup=Mixup())
    with pytest.raises(ValueError, match="give the spacing"):
        Mixing(cutmix=Cutmix(region="lesion"))
    with pytest.raises(ValueError, match="cutmix with alpha 0"):
        Mixing(cutmix=Cutmix(alpha=0))
