import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.nets.moment_exchange import MomentExchange, exchange_moments, moments
from jaxmedgen.nets.unet import FeatureMixup, UNet
from jaxmedgen.ops.collectives import batch_axis

KINDS = ("positional", "instance", "layer", "group", "group_positional")
SWAP = jnp.asarray([1, 0, 3, 2])
H = jnp.asarray(np.random.default_rng(0).normal(2, 3, size=(4, 6, 5, 8)), jnp.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_exchanged_features_have_the_partners_moments(kind):
    groups = {"groups": 2}
    # Enough channels a group: epsilon counts where the variance of a few is small.
    h = jnp.concatenate([H, H[::-1]], -1) if kind == "group_positional" else H
    out = exchange_moments(h, SWAP, kind, **groups)
    for found, wanted in zip(moments(out, kind, **groups), moments(h, kind, **groups)):
        np.testing.assert_allclose(found, wanted[SWAP], atol=2e-5)
    np.testing.assert_allclose(exchange_moments(out, SWAP, kind, **groups), h, atol=1e-4)
    np.testing.assert_allclose(exchange_moments(h, jnp.arange(4), kind, **groups), h, atol=1e-5)
    assert float(jnp.abs(out - h).max()) > 0.1


def test_moments_are_numpys_unbiased_ones():
    x = np.asarray(H)
    axes = {"positional": -1, "instance": (1, 2), "layer": (1, 2, 3)}
    for kind, axis in axes.items():
        mean, deviation = moments(H, kind)
        np.testing.assert_allclose(mean, x.mean(axis, keepdims=True), atol=1e-5)
        expected = np.sqrt(x.var(axis, ddof=1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(deviation, expected, rtol=1e-5)
    mean, _ = moments(H, "group", groups=2)
    np.testing.assert_allclose(mean[:, 0, 0, 3], x[..., :4].mean((1, 2, 3)), rtol=1e-5)
    assert mean.shape == (4, 1, 1, 8)
    mean, deviation = moments(H, "group_positional", groups=2)
    np.testing.assert_allclose(mean[..., 3], x[..., :4].mean(-1), atol=1e-5)
    expected = np.sqrt(x[..., 4:].var(-1, ddof=1) + 1e-5)
    np.testing.assert_allclose(deviation[..., 4], expected, rtol=1e-5)
    assert mean.shape == H.shape


def test_instance_exchange_leaves_normalised_features_and_gradients_reach_the_partner():
    def normalised(h):
        mean, deviation = moments(h, "instance")
        return (h - mean) / deviation

    out = exchange_moments(H, SWAP, "instance")
    np.testing.assert_allclose(normalised(out), normalised(H), atol=1e-4)
    gradient = jax.grad(lambda h: exchange_moments(h, SWAP, "instance")[0].sum())(H)
    assert float(jnp.abs(gradient[1]).max()) > 1e-3, "through the partner's moments"
    assert float(jnp.abs(gradient[2:]).max()) == 0.0


def test_devices_of_pmap_exchange_over_the_whole_batch():
    partner = jnp.asarray([2, 3, 0, 1])

    def run(h, partner):
        with batch_axis("data"):
            return exchange_moments(h, partner, "positional")

    mapped = jax.pmap(run, axis_name="data", devices=jax.devices()[:2])
    found = mapped(H.reshape(2, 2, *H.shape[1:]), partner.reshape(2, 2))
    expected = exchange_moments(H, partner, "positional")
    np.testing.assert_allclose(found.reshape(H.shape), expected, atol=1e-6)
    assert found.shape == (2, 2, 6, 5, 8)


def test_the_unet_mixes_in_training_only():
    net = UNet(dims=2, features=(4, 8), classes=2, moment_exchange="positional")
    image = jnp.asarray(np.random.default_rng(1).normal(size=(4, 8, 8, 1)), jnp.float32)
    variables = net.init(jax.random.key(0), image)
    plain = net.apply(variables, image, train=True)
    kept = net.apply(variables, image, train=False, partner=SWAP)
    np.testing.assert_allclose(kept, plain, atol=1e-5)
    mixed = net.apply(variables, image, train=True, partner=SWAP)
    assert float(jnp.abs(mixed - plain).max()) > 1e-2
    off = net.apply(variables, image, train=True, partner=jnp.arange(4))
    np.testing.assert_allclose(off, plain, atol=1e-4)
    # Mixed with the partner in full at any level: the partner's logits.
    for level in range(3):
        swap = FeatureMixup(SWAP, jnp.zeros(4), jnp.asarray(level))
        np.testing.assert_allclose(
            net.apply(variables, image, train=True, mixup=swap), plain[SWAP], atol=1e-5
        )


def test_any_level_of_the_encoder_can_be_exchanged():
    """Instance moments below: what the decoder gets of the first level is the sample's own."""
    image = jnp.asarray(np.random.default_rng(1).normal(size=(4, 8, 8, 1)), jnp.float32)
    nets = [
        UNet(2, (4, 8), 2, norm="none", moment_exchange="layer", moment_level=n) for n in (0, 1)
    ]
    variables = nets[0].init(jax.random.key(0), image)
    found = []
    for net in nets:
        kept = {"mutable": ["intermediates"], "capture_intermediates": True, "train": True}
        mixed, seen = net.apply(variables, image, partner=SWAP, **kept)
        plain, own = net.apply(variables, image, **kept)
        assert float(jnp.abs(mixed - plain).max()) > 1e-3
        one, other = (x["intermediates"]["encoder_1"]["__call__"][0] for x in (seen, own))
        found.append(float(jnp.abs(one - other).max()))
    assert found[0] > 1e-3, "the second level sees what the first exchanged"
    assert found[1] == 0.0, "and its own input if the exchange comes after it"
    with pytest.raises(ValueError, match="moment_level=2 of 2 levels"):
        UNet(2, (4, 8), 2, moment_level=2).init(jax.random.key(0), image)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="level = -1"):
        MomentExchange(level=-1)
    with pytest.raises(ValueError, match="p = 2"):
        MomentExchange(p=2)
    with pytest.raises(ValueError, match="do not divide into groups=3"):
        moments(H, "group", groups=3)
    with pytest.raises(ValueError, match="at least two"):
        moments(H[..., :1], "positional")
    with pytest.raises(ValueError, match="of 1 channel"):
        moments(H, "group_positional", groups=8)
