"""IT-VAE: parity over devices, learning, the arms, bounds, alignment, augmentation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.ops.fields import compose
from jaxmedgen.systems import base
from jaxmedgen.systems.deformation.it_vae import PLAYER, ItVae
from jaxmedgen.train.objectives import LossInputs
from jaxmedgen.train.parallel import ParallelSettings
from tests.train.test_parallel import run as parallel_run

SMALL = {
    "data.train": "8",
    "data.test": "4",
    "data.shape": "(16, 16)",
    "batch_size": "8",
    "model.features": "(4, 8)",
    "model.grid": "4",
    "steps": "100",
    "criterion.warm_up": "10",
}


@functools.cache
def small(argument, **overrides):
    """Configuration, sources and system of a small problem."""
    overrides = {k.replace("__", "."): v for k, v in overrides.items()}
    config = load_config(f"it_vae:cpu,{argument}", SMALL | overrides)
    sources = build_sources(config.data)
    return config, sources, base.build_system(config, sources.info)


@functools.cache
def history(argument, layout, steps=4, **overrides):
    """Metrics of every step, and the last state."""
    _, sources, system = small(argument, **overrides)

    def stream():
        return training_stream(sources.train, batch_size=8, seed=0, num_threads=0)

    return parallel_run(system, layout, steps, make_stream=stream)


ALL = {
    "criterion__bound": "iwae",
    "criterion__total_correlation": "3.0",
    "criterion__covariance": "(1.0, 1.0)",
    # Larger rates amplify rounding: parity is of the arithmetic, not of a chaotic trajectory.
    "optimizer__learning_rate": "0.0001",
}
ONE, EIGHT = ParallelSettings(data=1), ParallelSettings(backend="pmap", data=8)


def test_devices_agree():
    """Batch norm, latent noise and penalties of the global batch are those of one device."""
    one, many = (history("arm=c-vitae,data=glyphs", layout, **ALL)[0] for layout in (ONE, EIGHT))
    for a, b in zip(one, many):
        for name in a:
            np.testing.assert_allclose(b[name], a[name], rtol=2e-4, atol=1e-3, err_msg=name)


def test_groupwise_registration_learns_template_and_maps():
    """The bound rises, the template is no longer blank, aligned images resemble each other."""
    settings = {"optimizer__learning_rate": "0.01"}
    _, sources, system = small("arm=groupwise,data=population", **settings)
    steps, state = history("arm=groupwise,data=population", ONE, 60, **settings)
    bound = [m["log_likelihood"] for m in steps]
    assert np.mean(bound[-5:]) > np.mean(bound[:5]) + 100
    variables = base.evaluation_variables(state)
    image = jnp.stack([sources.train[i]["image"] for i in range(8)])

    @jax.jit
    def look(variables, image):
        centre = system.parameters(variables, image).mean(0)
        there, back = system.align(variables, image, centre)
        return there, compose(there, back), system.reconstruct(variables, image)

    there, both, shown = map(np.asarray, look(variables, image))
    assert np.abs(there).max() > 0.1
    assert np.abs(both[:, 3:-3, 3:-3]).mean() < 0.02
    assert isinstance(system, base.CanAlign)
    assert ((shown - image) ** 2).mean() < 0.8 * (np.asarray(image) ** 2).mean()


def test_maps_between_two_images_go_through_the_common_frame(monkeypatch):
    """``phi_1^-1 phi_0`` shows image 1 as image 0 stands; a mean map taken off is in neither."""
    parameters = 0.1 * np.random.default_rng(0).normal(size=(2, 6))
    given = jnp.asarray(parameters, jnp.float32)
    monkeypatch.setattr(ItVae, "parameters", lambda *_: given)
    _, _, system = small("arm=c-vitae,data=glyphs")
    there, back = system.align({}, jnp.zeros((2, 16, 16, 1)), given.mean(0))
    pair = compose(there[1:], back[:1])[0]
    rows = [np.vstack([p.reshape(2, 3), np.zeros((1, 3))]) for p in parameters - parameters.mean(0)]
    matrix = linalg.expm(-rows[1]) @ linalg.expm(rows[0])
    points = (np.indices((16, 16)) * 2 / 15 - 1).reshape(2, -1)
    moved = (matrix[:2, :2] @ points + matrix[:2, 2:] + 1) * 15 / 2
    expected = np.moveaxis(moved.reshape(2, 16, 16) - np.indices((16, 16)), 0, -1)
    assert np.abs(expected).max() > 0.5
    inner = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(pair[inner], expected[inner], atol=1e-3)


def test_bounds_are_ordered_and_a_template_has_no_appearance():
    """ELBO <= importance-weighted bound; posterior of z_A is None where there is a template."""
    _, sources, system = small("arm=c-vitae,data=glyphs", **ALL)
    _, state = history("arm=c-vitae,data=glyphs", ONE, **ALL)
    variables = base.evaluation_variables(state)
    image = jnp.stack([sources.test[i]["image"] for i in range(4)])
    keys = jax.random.split(jax.random.key(0), 4)
    elbo, weighted = jax.jit(lambda v, k, x: system.bounds(v, k, x, 64))(variables, keys, image)
    assert (weighted > elbo).all() and (weighted < 0).all()
    perspective, appearance = system.encode(variables, image)
    assert perspective.mean.shape == appearance.mean.shape == (4, 2)


@pytest.mark.parametrize(("arm", "latents"), [
    ("u-vitae", (2, 2)), ("dip-vae", (0, 4)), ("dae", (2, 2)), ("beta-vae", (0, 4)),
])  # fmt: skip
def test_arms_have_their_latents(arm, latents):
    config, _, system = small(f"arm={arm},data=glyphs")
    assert (system.net.perspective, system.net.appearance) == latents
    assert (config.criterion.beta, system.stochastic) == {
        "beta-vae": (4.0, True), "dae": (0.0, False),
    }.get(arm, (1.0, True))  # fmt: skip
    batch = {"image": jnp.zeros((2, 16, 16, 1))}
    shapes = jax.eval_shape(system.init, jax.random.key(0), batch)
    assert set(shapes.players) == {PLAYER}


def test_penalties_of_maps_in_three_dimensions():
    """Loss less bound: the velocity's energy by numpy's FFT, and how far a mirrored map folds."""
    shape, settings = (8, 8, 8), {"criterion__smoothness": "1e-4", "criterion__folding": "10.0"}
    _, _, system = small(
        "data=brain", data__shape=str(shape), data__train="1", data__test="0",
        model__transformer="affine+svf", criterion__warm_up="0", criterion__free_bits="0.0",
        **settings,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(2, *shape, 1)), jnp.float32)
    # The last layer starts at zero: its bias is all that the map is made of.
    bias = np.concatenate([0.05 * rng.normal(size=12), 2 * rng.normal(size=3 * 4**3)])
    bias[0] = -3.0  # a scale of the first axis below zero

    @jax.jit
    def step(key, bias):
        made = system.init(key, {"image": image}).players[PLAYER]
        decoder = made.params["perspective_decoder"]
        decoder = decoder | {"Dense_2": decoder["Dense_2"] | {"bias": bias}}
        variables = {"params": made.params | {"perspective_decoder": decoder}, **made.variables}
        keys = jax.random.split(key, 2)
        inputs = LossInputs({PLAYER: variables}, {}, {"image": image}, keys, key, jnp.int32(0))
        (objective,) = system.objectives()
        loss, outputs = objective.loss(inputs)
        family = system.net.transformer
        parameters = family.bounded(bias[None], shape)
        found = family.velocity(parameters, shape)[0], family.coordinates(parameters, shape)[0]
        return loss + outputs.metrics["elbo"], *found

    penalty, velocity, points = map(np.asarray, step(jax.random.key(0), jnp.float32(bias)))
    laplacian = sum(np.meshgrid(*[2 - 2 * np.cos(2 * np.pi * np.arange(8) / 8)] * 3))
    spectrum = np.abs(np.fft.fftn(velocity, axes=(0, 1, 2), norm="ortho")) ** 2
    energy = 0.5 * ((3 * laplacian + 1) ** 3 * spectrum.sum(-1)).sum()
    rows = np.stack([np.stack(np.gradient(points[..., i]), -1) for i in range(3)], -2)
    folded = np.maximum(-np.linalg.det(rows), 0).mean()
    assert 1e-4 * energy > 1 and folded > 0.1
    np.testing.assert_allclose(penalty, 1e-4 * energy + 10 * folded, rtol=1e-3)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="needs a velocity"):
        small("arm=c-vitae,data=glyphs", criterion__smoothness="1.0")
    with pytest.raises(ValueError, match="no transformer"):
        small("arm=vae,data=glyphs")[2].align({}, jnp.zeros((1, 16, 16, 1)))
    with pytest.raises(ValueError, match="at least 1"):
        small("arm=c-vitae,data=glyphs", criterion__samples="0")


def test_the_reference_implementation_s_recipe_is_that_of_digits_on_an_accelerator():
    """200 epochs of 60 000 digits in batches of 1024, 100 of them warm-up; 2 + 2 dimensions."""
    for size in ("gpu", "pod"):
        config = load_config(f"it_vae:{size},data=mnist")
        assert (config.batch_size, config.data.train, config.data.test) == (1024, 60000, 10000)
        assert config.steps * 1024 / 60000 == pytest.approx(200, abs=0.1)
        assert config.criterion.warm_up == config.steps // 2
        assert (config.model.perspective, config.model.appearance) == (2, 2)
        assert tuple(config.model.features) == (512, 256)
        assert config.model.transformer == "affinediff" and config.criterion.beta == 1
        assert (config.optimizer.kind, config.optimizer.learning_rate) == ("adam", 1e-3)
        assert (config.data.rotation, config.data.shift) == (20.0, 0.1)


def test_warped_images_end_at_the_border_or_go_on():
    assert small("arm=c-vitae,data=glyphs")[2].net.padding == "border"
    assert small("arm=c-vitae,data=glyphs", model__zero_padding="True")[2].net.padding == "constant"
