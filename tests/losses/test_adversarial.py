"""Adversarial losses against formulas written out in numpy, penalties against linear critics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.losses.adversarial import (
    discriminator_accuracy,
    discriminator_loss,
    feature_matching,
    generator_loss,
    gradient_penalty,
    relative_diversity,
)
from jaxmedgen.ops.collectives import batch_axis

RNG = np.random.default_rng(0)
R, F = (RNG.normal(size=(4, 3, 3, 1)).astype(np.float32) for _ in range(2))


def softplus(x):
    return np.log1p(np.exp(x))


EXPECTED = {
    "hinge": (np.maximum(0, 1 - R).mean() + np.maximum(0, 1 + F).mean(), -F.mean()),
    "lsgan": (((R - 1) ** 2).mean() + (F**2).mean(), ((F - 1) ** 2).mean()),
    "wgan": (F.mean() - R.mean(), -F.mean()),
    "jsgan": (softplus(-R).mean() + softplus(F).mean(), softplus(-F).mean()),
    "relativistic": (
        softplus(-(R - F.mean())).mean() + softplus(F - R.mean()).mean(),
        softplus(-(F - R.mean())).mean() + softplus(R - F.mean()).mean(),
    ),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_losses_are_the_published_formulas_and_average_over_scales(kind):
    real, fake = jnp.asarray(R), jnp.asarray(F)
    one = (discriminator_loss(kind, real, fake), generator_loss(kind, fake, real))
    np.testing.assert_allclose(one, EXPECTED[kind], rtol=1e-5)
    # A scale that is swapped with itself: the mean of both.
    two = discriminator_loss(kind, (real, real), (fake, fake))
    np.testing.assert_allclose(two, one[0], rtol=1e-6)


def test_unknown_kinds_and_missing_real_samples_are_named():
    with pytest.raises(ValueError, match="unknown GAN loss 'dcgan'"):
        discriminator_loss("dcgan", jnp.asarray(R), jnp.asarray(F))
    with pytest.raises(ValueError, match="give real="):
        generator_loss("relativistic", jnp.asarray(F))
    with pytest.raises(ValueError, match="2 maps of real samples but 1"):
        discriminator_loss("hinge", (jnp.asarray(R),) * 2, jnp.asarray(F))


def test_penalties_of_a_linear_critic_depend_on_its_weights_alone():
    w = RNG.normal(size=(5, 5, 2)).astype(np.float32)

    def critic(images):
        return jnp.sum(images * w, axis=(1, 2, 3))[:, None]

    real, fake = (jnp.asarray(RNG.normal(size=(3, 5, 5, 2)), jnp.float32) for _ in range(2))
    keys = jax.random.split(jax.random.key(0), 3)
    np.testing.assert_allclose(gradient_penalty(critic, real), 0.5 * (w**2).sum(), rtol=1e-5)
    expected = (np.sqrt((w**2).sum()) - 1) ** 2
    found = gradient_penalty(critic, real, fake, keys, kind="wgan-gp")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_feature_matching_leaves_out_logits_and_lets_no_gradient_into_the_real_maps():
    maps = tuple(jnp.asarray(RNG.normal(size=(2, 4, 4, c)), jnp.float32) for c in (3, 5, 1))
    others = (*(m + 0.5 for m in maps[:-1]), maps[-1] + 100)
    value, gradients = jax.value_and_grad(
        lambda real, fake: feature_matching((real, real), (fake, fake)), argnums=(0, 1)
    )(maps, others)
    np.testing.assert_allclose(value, 2 * 0.5, rtol=1e-5)  # two layers, half a unit each
    assert all(float(jnp.abs(g).max()) == 0 for g in gradients[0])
    assert float(jnp.abs(gradients[1][0]).max()) > 0


def test_accuracy_and_diversity_at_their_extremes():
    real, fake = jnp.full((4, 3, 1), 2.0), jnp.full((4, 3, 1), -2.0)
    assert float(discriminator_accuracy("hinge", real, fake)) == 1
    assert float(discriminator_accuracy("hinge", fake, real)) == 0
    assert float(discriminator_accuracy("wgan", real + 9, fake + 9)) == 1
    images = jnp.asarray(RNG.normal(size=(6, 4, 4, 1)), jnp.float32)
    assert float(relative_diversity(images, images)) == pytest.approx(1, abs=1e-5)
    same = jnp.broadcast_to(images[:1], images.shape)
    assert float(relative_diversity(same, images)) == pytest.approx(0, abs=1e-5)
    assert float(relative_diversity(images / 2, images)) == pytest.approx(0.5, abs=1e-5)


def test_the_diversity_of_a_batch_of_one_is_not_a_number():
    images = jnp.asarray(RNG.normal(size=(2, 4, 4, 1)), jnp.float32)
    assert np.isnan(relative_diversity(images[:1], images[1:]))

    def one_a_device(image):
        with batch_axis("batch"):
            return relative_diversity(image, image)

    # Of two devices with a sample each; vmap stands for pmap.
    found = jax.vmap(one_a_device, axis_name="batch")(images[:, None])
    np.testing.assert_allclose(found, 1.0, rtol=1e-5)
