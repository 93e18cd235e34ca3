"""RHVAE: bounds in plain numpy, devices, arms, the metric that is kept, samplers, settings."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.experiments.shape_files import write_shapes
from jaxmedgen.systems import base, latent
from jaxmedgen.systems.shape.rhvae_bound import Bound, bound_of
from jaxmedgen.systems.shape.rhvae_training import PLAYER
from jaxmedgen.train.parallel import ParallelSettings
from tests.ops.test_riemannian_metric import draw, half_log_det, inverse
from tests.train.test_parallel import run as parallel_run

SMALL = {
    "data.train": "8",
    "data.test": "4",
    "batch_size": "8",
    "model.latents": "2",
    "model.hidden": "8",
    "criterion.iterations": "1",
    "sampling.transitions": "3",
    "sampling.leapfrogs": "3",
}


@functools.cache
def small(arm, **overrides):
    overrides = {k.replace("__", "."): v for k, v in overrides.items()}
    config = load_config(f"rhvae:cpu,arm={arm}", SMALL | overrides)
    sources = build_sources(config.data)
    return sources, base.build_system(config, sources.info)


@functools.cache
def history(arm, layout, steps=3, **overrides):
    """Metrics of every step, and the last state."""
    sources, system = small(arm, steps=str(steps), **overrides)

    def stream():
        return training_stream(sources.train, batch_size=8, seed=0, num_threads=0)

    return parallel_run(system, layout, steps, make_stream=stream)


ONE, MANY = ParallelSettings(data=1), ParallelSettings(backend="pmap", data=2)


def test_devices_agree():
    """The metric of a step and the means of a kind are those of the global batch."""
    (one, state), (many, other) = (history("rhvae", layout) for layout in (ONE, MANY))
    for a, b in zip(one, many):
        for name in a:
            np.testing.assert_allclose(b[name], a[name], rtol=2e-4, atol=1e-3, err_msg=name)
    kept, again = (s.players[PLAYER].variables["metric"] for s in (state, other))
    np.testing.assert_array_equal(kept["kind"], np.arange(8) % 4)
    for name in ("centroids", "factors"):
        np.testing.assert_allclose(again[name], kept[name], atol=1e-4)


def test_the_metric_is_that_of_the_last_weights():
    """Nothing is learned in the last pass: centroids are the final encoder's means."""
    sources, system = small("rhvae", steps="3")
    steps, state = history("rhvae", ONE)
    variables = base.evaluation_variables(state)
    batch = {
        name: np.stack([sources.train[i][name] for i in range(8)]) for name in ("image", "kind")
    }

    @jax.jit
    def look(variables, batch, noise):
        mean, _ = system.encode_levels(variables, batch)["z"]
        keys = jax.random.split(jax.random.key(0), (4, 5))
        draws = {p: system.draw(variables, keys, p) for p in ("normal", "manifold", "walk")}
        made = system.prior_levels(variables, {"z": noise}, batch)
        return mean, system.metric(variables), draws, made, system.decode(
            variables, draws["manifold"]
        )  # fmt: skip

    noise = jax.random.normal(jax.random.key(1), (8, 2))
    mean, metric, draws, made, images = look(variables, batch, noise)
    kept = state.players[PLAYER].variables["metric"]
    np.testing.assert_allclose(kept["centroids"], mean, atol=1e-5)
    assert (np.asarray(kept["factors"])[:, 0, 1] == 0).all()
    values = []
    for kind in range(4):
        own = [np.asarray(kept[name], np.float64)[kind::4] for name in ("centroids", "factors")]
        values += [np.linalg.eigvalsh(inverse(c, *own)) for c in own[0]]
    logged = tuple(steps[-1][f"metric/metric_{n}"] for n in ("least", "largest"))
    np.testing.assert_allclose(logged, (np.min(values), np.max(values)), rtol=1e-4)
    assert metric.centroids.shape == (4, 2, 2) and images.shape == (4, 5, 20, 20, 1)
    np.testing.assert_allclose(metric.centroids[1], np.asarray(mean)[[1, 5]], atol=1e-5)
    for name in ("manifold", "walk"):
        gap = np.asarray(draws[name])[:, :, None] - np.asarray(metric.centroids)[:, None]
        assert (np.linalg.norm(gap, axis=-1).min(-1) < 2 * 0.8).all()  # within S
    assert np.isfinite(made["z"]).all() and np.unique(np.asarray(made["z"])[:, 0]).size > 4
    assert isinstance(system, latent.CanGenerate) and isinstance(system, base.CanShow)


def test_bounds_are_those_of_plain_numpy():
    """One leapfrog step without fixed points, a quadratic likelihood, all terms in float64."""
    centroids, factors, mean = draw(n=3, d=2, b=3)
    rng = np.random.default_rng(1)
    noise, log_variance = rng.standard_normal((2, 3, 2)), 0.3 * rng.standard_normal((3, 2))
    target, eps, root = rng.standard_normal((3, 2)), 0.05, 0.5
    with jax.enable_x64(True):
        from jaxmedgen.ops.riemannian_metric import metric_of_factors

        @jax.jit
        def compute(mean, log_variance, noise, factors, centroids, target):
            def likelihood(z):
                return -((z - target) ** 2).sum(-1)

            metric = metric_of_factors(centroids, factors, 0.8, 1e-3)
            found = {}
            for objective in ("reference", "exact"):
                bound = Bound("learned", objective, steps=1, step_size=eps, tempered=root,
                              iterations=1, frozen=True)  # fmt: skip
                found[objective] = bound_of(
                    bound, likelihood, mean, log_variance, noise, factors, metric
                )
            plain = Bound("none", samples=2)
            found["iwae"] = bound_of(plain, likelihood, mean, log_variance, noise)
            return found

        found = compute(mean, log_variance, noise, factors, centroids, target)

    def normal(x, m=0.0, lv=0.0):
        return -0.5 * (np.log(2 * np.pi) + lv + (x - m) ** 2 / np.exp(lv)).sum()

    model = (centroids, factors)

    def slope(f, x, h=1e-5):
        return np.array([(f(x + s) - f(x - s)) / (2 * h) for s in h * np.eye(2)])

    for k in range(3):

        def hamiltonian(z, q, k=k):
            energy = ((z - target[k]) ** 2).sum() - normal(z) - half_log_det(z, *model)
            return energy + 0.5 * q @ inverse(z, *model) @ q

        z0 = mean[k] + np.exp(0.5 * log_variance[k]) * noise[0, k]
        lower = np.linalg.cholesky(inverse(z0, *model))
        starts = {"reference": factors[k] @ noise[1, k],
                  "exact": np.linalg.solve(lower.T, noise[1, k])}  # fmt: skip
        for objective, q in starts.items():
            q = q / root
            half = q - 0.5 * eps * slope(lambda z, q=q: hamiltonian(z, q), z0)
            z = z0 + eps * inverse(z0, *model) @ half
            q = half - 0.5 * eps * slope(lambda z, half=half: hamiltonian(z, half), z)
            q = root * q
            expected = -hamiltonian(z, q) + 0.5 * noise[1, k] @ noise[1, k]
            expected -= normal(z0, mean[k], log_variance[k])
            if objective == "exact":
                expected -= half_log_det(z0, *model)
            np.testing.assert_allclose(found[objective][k], expected, rtol=1e-6)
        deviation = np.exp(0.5 * log_variance[k])
        weights = [
            np.exp(-((z - target[k]) ** 2).sum() + normal(z) - normal(z, mean[k], log_variance[k]))
            for z in (mean[k] + deviation * noise[s, k] for s in range(2))
        ]
        np.testing.assert_allclose(found["iwae"][k], np.log(np.mean(weights)), rtol=1e-8)


def test_a_density_of_latents_of_images_and_labels_is_learned_and_the_best_weights_are_kept(
    tmp_path,
):
    settings = {
        "optimizer__learning_rate": "0.005",
        "model__content": "both",
        "model__density_layers": "2",
        "patience": "20",
    }
    steps, state = history("flow", ONE, 12, **settings)
    losses = [m["bound/loss"] for m in steps]
    assert np.isfinite([list(m.values()) for m in steps]).all()
    assert losses[-1] < 0.98 * losses[0]
    player = state.players[PLAYER]
    best = player.variables["best"]
    np.testing.assert_allclose(best["loss"], min(losses[:-1]), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, player.params, best["params"])
    _, system = small("flow", steps="12", **settings)
    keys = jax.random.split(jax.random.key(0), (4, 50))

    @jax.jit
    def draws(variables):
        return system.draw(variables, keys), system.draw(variables, keys, "normal")

    drawn = draws(base.evaluation_variables(state))
    assert np.isfinite(drawn[0]).all() and np.abs(drawn[0] - drawn[1]).max() > 0.01
    batch = {"image": jnp.ones((2, 20, 20, 1)), "label": jnp.ones((2, 20, 20), jnp.int32)}
    np.testing.assert_array_equal(system.target(batch)[0, 0, 0], [1, 0, 1])
    image, label = system.content.split(system.target(batch))
    assert image.shape == (2, 20, 20, 1) and (np.asarray(label) == 1).all()

    sources, _ = small("flow", steps="12", **settings)
    variables = base.evaluation_variables(state)
    write_shapes(sources, system, variables, tmp_path, 2, 0, condition="3")  # crosses
    image, label = (
        nib.load(tmp_path / part / "sample_00001.nii.gz") for part in ("images", "labels")
    )
    assert image.shape == label.shape and image.shape[:2] == (20, 20)
    assert set(np.unique(label.dataobj)) <= {0, 1} and image.get_fdata().max() <= 1
    with pytest.raises(ValueError, match="has labels"):
        write_shapes(sources, system, variables, tmp_path, 2, 0, condition="4")


def test_convolutions_and_volumes_have_the_shape_of_the_data():
    _, system = small("rhvae")
    net = dataclasses.replace(system.net, shape=(12, 10, 9), outputs=2, features=(4, 8))
    x = jnp.zeros((3, 12, 10, 9, 2))
    made = jax.eval_shape(lambda k: net.apply(net.init(k, x), x), jax.random.key(0))
    assert made.shape == (3, 12, 10, 9, 2)


def test_settings_that_do_not_fit_are_refused():
    for match, overrides in (
        (r"criterion\.geometry='round'", {"criterion__geometry": "round"}),
        (r"criterion\.beta=2", {"criterion__beta": "2.0"}),
        (r"sampling\.prior='uniform'", {"sampling__prior": "uniform"}),
        (r"model\.content='text'", {"model__content": "text"}),
        (r"model\.subjects=4 for 8", {"model__subjects": "4"}),
        (r"steps=1: the last 1", {"steps": "1"}),
        ("several kinds need", {"model__condition": ""}),
    ):
        with pytest.raises(ValueError, match=match):
            small("rhvae", **overrides)
