"""PADDIT: gradients, the M-step against scipy, devices, resumption, new subjects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.ops.velocity_flows import velocity_flow
from jaxmedgen.systems.base import CanPredict, CanSample, System, build_system
from jaxmedgen.systems.deformation.paddit import PLAYER
from jaxmedgen.systems.deformation.paddit_em import Template, curvature, posterior_energy
from jaxmedgen.systems.deformation.paddit_moments import interpolation_gain
from jaxmedgen.train.checkpoint import Checkpointer
from jaxmedgen.train.parallel import ParallelSettings
from jaxmedgen.train.step import make_step
from tests.train.test_parallel import run as parallel_run

TINY = {
    "data.shape": "(16, 16)",
    "data.train": "8",
    "data.validation": "1",
    "data.test": "1",
    "batch_size": "8",
    "steps": "4",
    "eval_every": "0",
    "model.rounds": "3",
    "model.map_rounds": "2",
    "model.fit_prior": "True",
    # On 16^2 little is left of smoothed images, and chains of devices part sooner.
    "model.smoothing": "0.0",
    "model.temperature": "2.25",
    "model.velocity.squarings": "3",
    "model.sampling.map_steps": "5",
    "model.sampling.draws": "4",
    "model.sampling.thinning": "2",
    "model.sampling.leapfrog_steps": "3",
}


def tiny(**overrides):
    """Configuration, sources and system of 8 subjects of 16^2."""
    config = load_config("paddit:cpu", TINY | overrides)
    sources = build_sources(config.data)
    return config, sources, build_system(config, sources.info)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """Metrics, the last state, both again from a checkpoint, and the state after the third step.

    The first two steps look for modes, the third samples and learns, the last only samples.
    """
    _, sources, system = tiny()
    batches = training_stream(sources.train, batch_size=8, seed=0, num_threads=0)
    step = make_step(system.objectives(), system.players(), prepare=system.prepare)
    state = jax.jit(system.init)(jax.random.key(0), next(batches))
    batches = training_stream(sources.train, batch_size=8, seed=0, num_threads=0)
    checkpoints = Checkpointer(tmp_path_factory.mktemp("run"))
    history, rest, compiled = [], [], None
    for number in range(4):
        batch = jax.tree.map(jnp.asarray, next(batches))
        # Ahead of time, for a restored state would count as placed and compile again.
        compiled = compiled or jax.jit(step).lower(state, batch).compile()
        state, metrics = compiled(state, batch)
        history.append(jax.device_get(metrics))
        if number == 1:
            checkpoints.save(state, {})
        if number > 1:
            rest.append(batch)
        if number == 2:
            learnt = state
    resumed, _ = checkpoints.restore(state)
    again = []
    for batch in rest:
        resumed, metrics = compiled(resumed, batch)
        again.append(jax.device_get(metrics))
    checkpoints.close()
    return history, state, again, resumed, learnt


@pytest.mark.parametrize("flow", ["stationary", "geodesic"])
def test_gradient_of_the_energy_against_finite_differences(flow):
    """In float64, through Exp or shooting and the resampler; the Gauss-Newton matrix likewise."""
    with jax.enable_x64(True):
        made = velocity_flow(
            (12, 12), flow=flow, parametrisation="band", band=3, alpha=10.0, shooting_steps=3
        )
        hyper = {n: jnp.asarray(x, jnp.float64) for n, x in made.prior.start(0.7).items()}
        grid = np.stack(np.meshgrid(*[np.arange(12)] * 2, indexing="ij"), -1)
        image = jnp.asarray(np.sin(grid @ [0.5, 0.3]) + np.cos(grid @ [-0.2, 0.7]))[None, ..., None]
        template = Template(jnp.roll(image[0], 1, 0), jnp.asarray(0.3))
        xi, along = np.random.default_rng(0).normal(size=(2, 1, *made.prior.coordinates))

        @jax.jit
        def both(xi):
            parts, pull = jax.vjp(lambda x: posterior_energy(x, image, template, made, hyper), xi)
            return parts.sum(), pull(jnp.ones_like(parts))[0]

        step = 1e-6
        slope = float(jnp.sum(both(jnp.asarray(xi))[1] * along))
        ends = [float(both(jnp.asarray(xi + s * step * along))[0]) for s in (1, -1)]
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-5)
        if flow == "stationary":
            gauss_newton = jax.jit(
                lambda x: curvature(x, image, template, made.displacement, hyper)
            )
            found = gauss_newton(jnp.asarray(xi))[0]
            differentiate = jax.jacfwd(
                lambda x: jax.scipy.ndimage.map_coordinates(
                    image[0, ..., 0],
                    jnp.moveaxis(grid + made.displacement(x, hyper)[0], -1, 0),
                    order=1,
                    mode="nearest",
                )
            )
            jacobian = jax.jit(differentiate)(jnp.asarray(xi)).reshape(144, -1) / np.sqrt(0.3)
            np.testing.assert_allclose(found, jacobian.T @ jacobian + np.eye(18), atol=1e-8)


def pulled_images(sources, system, player):
    """All subjects' images moved by all their draws, by scipy, and what that leaves of noise."""
    draws = player.variables["chains"]["draws"]
    several = draws.reshape(8, 8, *draws.shape[3:])
    grid = np.stack(np.meshgrid(*[np.arange(16)] * 2, indexing="ij"))
    displacement = jax.jit(lambda xi: system.flow.displacement(xi, player.params["prior"]))
    pulled, gains = [], []
    for k in range(8):
        image = sources.train[k]["image"][..., 0]
        u = np.asarray(displacement(several[k]))
        gains.append(interpolation_gain(jnp.asarray(u)).mean((1, 2)))
        pulled += [
            scipy.ndimage.map_coordinates(image, at, order=1, mode="nearest")
            for at in grid + np.moveaxis(u, -1, 1)
        ]
    return np.stack(pulled), np.stack(gains)


def test_m_step_is_the_closed_form(one_device):
    """Template and sigma of an iteration that learns are those of its draws, by scipy."""
    _, sources, system = tiny()
    history, *_, learnt = one_device
    own = learnt.players[PLAYER]
    pulled, _ = pulled_images(sources, system, own)
    template = np.asarray(own.params["template"])[..., 0]
    np.testing.assert_allclose(template, pulled.mean(0), atol=1e-4)
    sigma = np.exp(float(own.params["log_sigma"]))
    np.testing.assert_allclose(sigma**2, ((pulled - pulled.mean(0)) ** 2).mean(), rtol=1e-3)
    np.testing.assert_allclose(history[2]["sigma"], sigma, rtol=1e-6)
    assert history[2]["template_change"] > 1e-3


def test_frozen_parameters_are_compared_with_new_draws(one_device):
    """Residual, noise and variance after the last iteration, by scipy's interpolation."""
    _, sources, system = tiny()
    history, state, *_ = one_device
    own, last = state.players[PLAYER], history[-1]
    pulled, gains = pulled_images(sources, system, own)
    residual = np.sqrt(((pulled - np.asarray(own.params["template"])[..., 0]) ** 2).mean())
    np.testing.assert_allclose(last["residual"], residual, rtol=1e-4)
    variance = own.variables["population"]["variance"][..., 0]
    np.testing.assert_allclose(variance, pulled.var(0), rtol=1e-3, atol=1e-4)
    sigma = np.exp(float(own.params["log_sigma"]))
    np.testing.assert_allclose(last["noise"], sigma / np.sqrt(gains.mean() * 7 / 8), rtol=1e-4)
    assert last["residual"] < 0.9 * np.std([sources.train[k]["image"] for k in range(8)], 0).mean()
    assert last["folding"] == 0


def test_velocities_are_centred_while_the_template_learns(one_device):
    """The mean over subjects is taken out of draws and chains, which go on from the last draw."""
    _, state, *_, learnt = one_device
    chains, frozen = (x.players[PLAYER].variables["chains"] for x in (learnt, state))
    means = np.asarray(chains["draws"]).mean((1, 2))
    assert np.abs(means).max() > 0.3
    np.testing.assert_allclose(means.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(chains["position"], chains["draws"][:, :, -1], atol=1e-6)
    # The last iteration samples the posterior of a fixed template: nothing is taken out.
    assert np.abs(np.asarray(frozen["draws"]).mean((0, 1, 2))).max() > 1e-3


def test_the_log_is_complete(one_device):
    history, state, *_ = one_device
    names = ("acceptance", "energy_error", "rhat", "ess", "step_size", "sharpness", "inverse_error")
    assert all(np.isfinite(history[-1][n]) for n in names)
    assert np.isnan(history[0]["rhat"])
    assert history[-1]["template_change"] == 0
    labels = state.players[PLAYER].params["labels"]
    np.testing.assert_allclose(labels.sum(-1), 1.0, atol=1e-5)


def test_parity_of_devices(one_device):
    """Subjects spread over eight devices under pmap: the same chains and the same template."""
    _, sources, system = tiny()

    def stream():
        return training_stream(sources.train, batch_size=8, seed=0, num_threads=0)

    layout = ParallelSettings(backend="pmap", data=8)
    history, state = parallel_run(system, layout, 4, make_stream=stream)
    for step, (a, b) in enumerate(zip(one_device[0], history)):
        for name in a:
            # Trajectories amplify rounding; a key of another sample would change all of it.
            tolerance = 2e-3 if step < 2 or name in ("residual", "sigma", "noise") else 0.1
            if step > 1 and name in ("ess", "rhat"):
                # Worst subjects of four draws: once trajectories part, only that they are there.
                assert np.isfinite(a[name]) == np.isfinite(b[name]), name
                continue
            # These hang on single positions of the chains.
            sensitive = ("ess", "rhat", "energy_error", "inverse_error")
            tolerance = 0.5 if name in sensitive else tolerance
            np.testing.assert_allclose(
                b[name], a[name], rtol=tolerance, atol=1e-3, err_msg=f"{name}, step {step}"
            )
    template = state.players[PLAYER].params["template"]
    expected = one_device[1].players[PLAYER].params["template"]
    np.testing.assert_allclose(template, expected, atol=0.02)


def test_a_resumed_run_repeats_the_numbers(one_device):
    """Chains, tuning and template come back from the checkpoint."""
    history, state, again, resumed, _ = one_device
    assert len(again) == 2
    for a, b in zip(history[2:], again):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    for a, b in zip(jax.tree.leaves(state.players), jax.tree.leaves(resumed.players)):
        np.testing.assert_array_equal(a, b)


def test_abilities(one_device):
    """New subjects are registered better than not at all; samples and modes have their shapes."""
    _, sources, system = tiny()
    for ability in (System, CanPredict, CanSample):
        assert isinstance(system, ability)
    variables = {PLAYER: one_device[1].players[PLAYER].evaluation_variables()}
    image = jnp.asarray(sources.test[0]["image"])[None]
    params = variables[PLAYER]["params"]

    @jax.jit
    def use(image, keys):
        xi = system.register(variables, image)
        label = jnp.zeros((2, 16, 16), jnp.int32)
        energies = [
            posterior_energy(
                x, system._seen(image), system._likelihood(params), system.flow, params["prior"]
            ).sum()
            for x in (0 * xi, xi)
        ]
        made = system.sample(variables, keys, label)
        return energies, system.predict(variables, image), made, system.atlas(variables)

    energies, probabilities, (made, label), atlas = use(
        image, jax.random.split(jax.random.key(0), 2)
    )
    assert float(energies[1]) < 0.9 * float(energies[0])
    np.testing.assert_allclose(probabilities.sum(-1), 1.0, atol=1e-5)
    assert made.shape == (2, 16, 16, 1)
    assert label.shape == (2, 16, 16)
    assert atlas.modes.shape == (3, 3, 16, 16, 1)
    assert int(atlas.label.max()) <= 3


def test_a_template_that_no_longer_changes_ends_each_phase():
    """With a tolerance that anything meets: one step of modes, one of samples, then frozen."""
    rounds = {"steps": "6", "model.rounds": "5", "model.map_rounds": "3"}
    small = {"model.sampling.map_steps": "2", "model.sampling.draws": "4"}
    _, sources, system = tiny(**rounds, **small, **{"model.tolerance": "1e9"})
    batches = training_stream(sources.train, batch_size=8, seed=0, num_threads=0)
    batch = jax.tree.map(jnp.asarray, next(batches))
    step = jax.jit(make_step(system.objectives(), system.players(), prepare=system.prepare))
    state, found, templates = jax.jit(system.init)(jax.random.key(0), batch), [], []
    for _ in range(4):
        state, metrics = step(state, batch)
        found.append(jax.device_get(metrics))
        templates.append(np.asarray(state.players[PLAYER].params["template"]))
    assert [int(m["rounds_skipped"]) for m in found] == [2, 3, 3, 3]
    assert np.isnan(found[0]["acceptance"]) and np.isfinite(found[1]["acceptance"])
    assert np.abs(templates[1] - templates[0]).max() > 0
    np.testing.assert_array_equal(templates[2], templates[1])
    assert [float(m["template_change"]) for m in found[2:]] == [0, 0]


def test_wrong_settings_are_named():
    geodesic = {"model.velocity.flow": "geodesic", "model.velocity.parametrisation": "band"}
    with pytest.raises(ValueError, match=r"alpha must stay; set --config.model.alpha_rate=0"):
        tiny(**geodesic, **{"model.fit_prior": "True", "model.alpha_rate": "0.1"})
    with pytest.raises(ValueError, match=r"tolerance=-1.0 must be 0"):
        tiny(**{"model.tolerance": "-1.0"})
    with pytest.raises(ValueError, match=r"set --config.batch_size=8"):
        tiny(batch_size="4")
    with pytest.raises(ValueError, match=r"draws=1 of thinning=2 .* fewer than 4 transitions"):
        tiny(**{"model.sampling.draws": "1"})
    with pytest.raises(ValueError, match="they must rise"):
        tiny(steps="3")
    with pytest.raises(ValueError, match=r"model.compared=\(1,\) of 1 image channel"):
        tiny(**{"model.compared": "(1,)"})
