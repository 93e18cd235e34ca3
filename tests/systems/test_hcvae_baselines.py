"""TL-Net's stages, the GAN's losses, and the linear model against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from jaxmedgen.experiments.reconstruction.scoring import stacked
from jaxmedgen.systems import base
from jaxmedgen.systems.shape import hcvae_gan, hcvae_linear, hcvae_tl_net
from jaxmedgen.train.step import make_step
from tests.systems.hcvae_toys import batch_of, fresh, inputs_of, tiny, variables_of


def test_tl_net_trains_in_three_stages():
    _, sources, system = tiny("arm=tl-net", steps="6", criterion__stages="(2, 4)")
    batch = batch_of(sources.train)
    state = fresh(system)
    step = jax.jit(make_step(system.objectives(), system.players(), prepare=system.prepare))
    names = (hcvae_tl_net.AUTOENCODER, hcvae_tl_net.REGRESSOR)
    for number in range(6):
        before, (state, metrics) = state, step(state, batch)
        moved = tuple(
            any(
                np.any(np.asarray(a) != np.asarray(b))
                for a, b in zip(
                    jax.tree.leaves(before.players[name].params),
                    jax.tree.leaves(state.players[name].params),
                )
            )
            for name in names
        )
        assert moved == [(True, False), (False, True), (True, True)][number // 2]
        if number in (2, 3):
            for a, b in zip(
                jax.tree.leaves(before.players[names[0]].variables),
                jax.tree.leaves(state.players[names[0]].variables),
            ):
                np.testing.assert_array_equal(a, b)
        fit, distance = metrics["reconstruction"], metrics["embedding_distance"]
        expected = (fit, distance, fit + distance / 1500)[number // 2]
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    assert not isinstance(system, base.CanSampleVolume) and isinstance(system, base.CanBuildVolume)
    with pytest.raises(ValueError, match=r"criterion\.stages=\(4, 2\)"):
        tiny("arm=tl-net", steps="6", criterion__stages="(4, 2)")


def test_the_gan_judges_pairs_and_the_generator_pays_for_voxels():
    _, sources, system = tiny("arm=gan")
    batch = batch_of(sources.train)

    @jax.jit
    def look(variables):
        inputs = inputs_of(variables, batch)
        (logits, context), _ = system._made(inputs)
        verdict = system._judged(inputs, jax.nn.sigmoid(logits), context)
        other = system._judged(inputs, jax.nn.sigmoid(logits), context[::-1])
        real = system._judged(inputs, batch["label"].astype(jnp.float32), context)

        def by_generator(params):
            full = {**variables[hcvae_gan.GENERATOR], "params": params}
            return system._discriminator_loss(
                inputs.replace(variables={**variables, hcvae_gan.GENERATOR: full})
            )[0]

        leak = jax.grad(by_generator)(variables[hcvae_gan.GENERATOR]["params"])
        losses = system._generator_loss(inputs)[0], system._discriminator_loss(inputs)[0]
        return logits, verdict, other, real, leak, losses

    logits, verdict, other, real, leak, losses = look(variables_of(system))
    p, x = expit(np.asarray(logits, np.float64)), np.asarray(batch["label"], np.float64)
    fit = -(x * np.log(p) + (1 - x) * np.log(1 - p)).mean()
    verdict, other, real = (np.asarray(v, np.float64) for v in (verdict, other, real))
    cheat = np.logaddexp(0, -verdict).mean()  # -log sigmoid
    np.testing.assert_allclose(losses[0], cheat + 100 * fit, rtol=1e-4)
    expected = np.logaddexp(0, -real).mean() + np.logaddexp(0, verdict).mean()
    np.testing.assert_allclose(losses[1], expected, rtol=1e-4)
    assert np.abs(verdict - other).max() > 1e-5
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(leak))


def test_the_linear_model_is_scikit_learns():
    _, sources, system = tiny("arm=pca", data__train="40", batch_size="40")
    batch = batch_of(sources.train, 40)
    cases = stacked(sources.train)
    rng = np.random.default_rng(0)
    planes = cases["planes"] + rng.normal(0, 0.2, cases["planes"].shape)
    noisy = {**batch, "planes": jnp.asarray(planes, jnp.float32)}

    @jax.jit
    def fit(batch):
        (update,) = system.objectives()
        params = update.run(inputs_of({}, batch)).params
        variables = {hcvae_linear.PLAYER: {"params": params[hcvae_linear.PLAYER]}}
        return params, system.build_volume(variables, batch["planes"], batch["available"])

    found, built = fit(noisy)
    volumes = cases["label"].reshape(40, -1).astype(np.float64)
    coarse = planes.reshape(40, 4, 2, 4, 2, 3).mean((2, 4)).reshape(40, -1)
    pca = PCA(3).fit(volumes)
    penalties = np.array(hcvae_linear.PENALTIES) * coarse.shape[1]
    model = RidgeCV(penalties).fit(coarse, pca.transform(volumes))
    expected = pca.inverse_transform(model.predict(coarse)).clip(0, 1)
    np.testing.assert_allclose(np.asarray(built).reshape(40, -1), expected, atol=2e-3)
    assert found["linear"]["components"].shape == (3, 8, 8, 8)
    _, _, mean = tiny("arm=mean", model__components="0")

    @jax.jit
    def average(batch):
        (update,) = mean.objectives()
        params = update.run(inputs_of({}, batch)).params[hcvae_linear.PLAYER]
        variables = {hcvae_linear.PLAYER: {"params": params}}
        return params, mean.build_volume(variables, batch["planes"], batch["available"])

    params, shape = average(batch)
    np.testing.assert_allclose(shape[0], volumes.mean(0).reshape(8, 8, 8), atol=1e-6)
    assert all(x.size for x in jax.tree.leaves(params)), "checkpoints hold no empty arrays"
    assert not params["components"].any() and not params["weights"].any()
