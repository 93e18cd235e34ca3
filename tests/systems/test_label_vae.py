"""beta-VAE and PCA of label maps: the loss, devices, arms, components against scikit-learn."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.ops.slice_interpolation import signed_distance_maps
from jaxmedgen.systems import base
from jaxmedgen.systems.shape.label_vae import PLAYER, learning_rate, turn_by_quarters
from jaxmedgen.train.objectives import LossInputs
from jaxmedgen.train.parallel import ParallelSettings
from tests.train.test_parallel import run as parallel_run

SMALL = {
    "data.shape": "(32, 32)",
    "data.train": "4",
    "data.test": "2",
    "batch_size": "8",
}
TINY = {"net.features": "(4,)", "net.neck": "8", "net.latents": "4"}


@functools.cache
def small(argument, **overrides):
    """Configuration, sources and system of a small problem."""
    overrides = {k.replace("__", "."): v for k, v in overrides.items()}
    net = {} if "pca" in argument else TINY
    config = load_config(f"label_deformation:cpu,{argument}", SMALL | net | overrides)
    sources = build_sources(config.data)
    return config, sources, base.build_system(config, sources.info)


@functools.cache
def history(layout, steps=2, **overrides):
    """Metrics of every step, and the last state."""
    _, sources, system = small("arm=vae", **overrides)

    def stream():
        return training_stream(sources.train, batch_size=8, seed=0, num_threads=0)

    return parallel_run(system, layout, steps, make_stream=stream)


# Small steps: parity is of the arithmetic, not of a chaotic trajectory.
CALM = {"optimizer__learning_rate": "1e-5", "augment__quarter_turns": "0.7"}
ONE, MANY = ParallelSettings(data=1), ParallelSettings(backend="pmap", data=2)


def test_devices_agree():
    """Batch norm, latent noise and turns of the global batch are those of one device."""
    one, many = (history(layout, **CALM)[0] for layout in (ONE, MANY))
    for a, b in zip(one, many):
        for name in a:
            np.testing.assert_allclose(b[name], a[name], rtol=2e-4, atol=1e-3, err_msg=name)


def test_the_loss_is_a_sum_over_pixels_and_beta_times_the_divergence():
    _, sources, system = small("arm=vae")
    label = jnp.stack([sources.train[i]["label"] for i in range(4)])
    keys = jax.random.split(jax.random.key(1), 4)
    capacity = dataclasses.replace(system, capacity=25.0, capacity_steps=10)

    @jax.jit
    def look(key):
        variables = system.init(key, {}).players[PLAYER].evaluation_variables()
        inputs = LossInputs({PLAYER: variables}, {}, {"label": label}, keys, key, jnp.int32(4))
        noise = jax.vmap(lambda k: jax.random.normal(k, (4,)))(keys)
        onehot = jax.nn.one_hot(label, 4)
        outputs = system.net.apply(variables, onehot, noise, True, mutable=["batch_stats"])
        return system._loss(inputs), capacity._loss(inputs)[0], outputs[0]

    (value, outputs), held, (scores, mean, log_variance) = look(jax.random.key(0))
    scores, mean, log_variance = (np.asarray(x, np.float64) for x in (scores, mean, log_variance))
    log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    ce = -np.take_along_axis(log_p, np.asarray(label)[..., None], -1).sum() / 4
    kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum() / 4
    assert ce > 100  # 1024 pixels of about log 4: no mean over them
    assert system.beta == pytest.approx(15 * 64**2 / 128**2)
    np.testing.assert_allclose(value, ce + system.beta * kl, rtol=1e-5)
    np.testing.assert_allclose(outputs.metrics["kl"], kl, rtol=1e-4)
    np.testing.assert_allclose(held, ce + system.beta * abs(kl - 10.0), rtol=1e-5)


def test_training_lowers_the_loss_and_all_losses_are_finite():
    steps, state = history(ONE, 30, optimizer__learning_rate="0.01")
    first, last = (np.mean([m["reconstruction"] for m in part]) for part in (steps[:4], steps[-4:]))
    assert last < 0.7 * first
    _, sources, system = small("arm=vae")
    variables = base.evaluation_variables(state)
    label = jnp.stack([sources.test[i]["label"] for i in range(3)])
    assert isinstance(system, base.CanCodeLabels) and isinstance(system, base.CanShow)
    shown = jax.jit(lambda v, k: system.show(v, k, {"label": label}))(
        variables, jax.random.split(jax.random.key(0), 3)
    )
    assert {name: x.shape for name, x in shown.items()} == dict.fromkeys(
        ("labels", "reconstructions", "prior"), (3, 32, 32, 1)
    )
    from jaxmedgen.losses.label_maps import RECONSTRUCTIONS, label_reconstruction_loss

    scores = jax.random.normal(jax.random.key(0), (3, 32, 32, 4))
    values = jax.jit(
        lambda s: [label_reconstruction_loss(s, label, kind) for kind in RECONSTRUCTIONS]
    )(scores)
    perfect = [label_reconstruction_loss(50 * jax.nn.one_hot(label, 4) - 25, label, kind)
               for kind in ("ce", "dice", "bce", "mse", "l1")]  # fmt: skip
    assert all(np.isfinite(v) and v > 0 for v in values)
    np.testing.assert_allclose(perfect, 0, atol=1e-3)


@pytest.mark.parametrize(("arm", "latents", "beta"), [
    ("z32", 4, 10), ("beta50", 4, 50), ("ae", 4, 0), ("resnet", 4, 15), ("volume", 4, 15 * 32),
])  # fmt: skip
def test_arms_are_what_they_say(arm, latents, beta):
    config, _, system = small(f"arm={arm}")
    assert system.beta == pytest.approx(beta / 4)
    assert system.net.latents == latents and system.stochastic == (arm != "ae")
    assert system.net.kind == ("residual" if arm == "resnet" else "conv")
    state = jax.eval_shape(system.init, jax.random.key(0), {})
    assert set(state.players) == {PLAYER}
    assert load_config(f"label_deformation:cpu,arm={arm}").net.latents == (
        32 if arm in ("z32", "volume") else 16
    )
    assert len(system.net.shape) == (3 if arm == "volume" else 2) and config.steps > 0


def test_components_agree_with_scikit_learn():
    _, sources, system = small("arm=pca", net__latents="5", batch_size="16")
    label = np.stack([sources.train[i]["label"] for i in range(16)])
    maps = np.stack([np.clip(signed_distance_maps(each, 4), -8, 8) for each in label])
    reference = PCA(5).fit(maps.reshape(16, -1))

    @jax.jit
    def fit(key):
        state = system.init(key, {})
        inputs = LossInputs({}, {}, {"label": jnp.asarray(label)}, None, key, jnp.int32(0))
        (update,) = system.objectives()
        outputs = update.run(inputs)
        variables = {"components": {"params": outputs.params["components"]}}
        z, _ = system.encode_labels(variables, jnp.asarray(label))
        return state, outputs, z, system.decode_labels(variables, z)

    _, outputs, z, decoded = fit(jax.random.key(0))
    deviation = np.sqrt(reference.explained_variance_)
    params = outputs.params["components"]
    np.testing.assert_allclose(params["deviation"], deviation, rtol=1e-3)
    expected = reference.transform(maps.reshape(16, -1)) / deviation
    signs = np.sign((expected * np.asarray(z)).sum(0))
    np.testing.assert_allclose(np.asarray(z) * signs, expected, atol=2e-3)
    share = reference.explained_variance_ratio_.sum()
    np.testing.assert_allclose(outputs.metrics["explained_variance"], share, rtol=1e-4)
    assert (np.asarray(decoded) == label).mean() > 0.97
    assert isinstance(system, base.CanCodeLabels)


def test_turns_are_those_of_numpy():
    label = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    for turns in (0, 1, 2, 3):
        made = turn_by_quarters(jnp.asarray(label), jnp.asarray([turns, 0]))
        np.testing.assert_array_equal(made[0], np.rot90(label[0], turns, axes=(1, 2)))
        np.testing.assert_array_equal(made[1], label[1])


def test_the_published_schedule_decays_from_epoch_150_on():
    config = load_config("label_deformation:gpu")
    rate = learning_rate(config.optimizer, config.steps)
    epoch = config.optimizer.decay_every
    for number, expected in ((0, 1.0), (149, 1.0), (150, 0.96), (159, 0.96**10)):
        np.testing.assert_allclose(rate(number * epoch + 1), 2e-5 * expected, rtol=1e-5)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"criterion\.reconstruction='best'"):
        small("arm=vae", criterion__reconstruction="best")
    with pytest.raises(ValueError, match="must be square"):
        small("arm=vae", data__shape="(32, 48)", augment__quarter_turns="0.5")
    with pytest.raises(ValueError, match="no 16 components"):
        small("arm=pca", batch_size="8")
