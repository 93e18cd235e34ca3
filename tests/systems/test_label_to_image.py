"""Label-conditional synthesis: parity over devices, learning, styles, stacks, arms, refusals."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.systems import base
from jaxmedgen.systems.synthesis.conditional_gan import DISCRIMINATOR, FEATURES
from jaxmedgen.systems.synthesis.rendering import GENERATOR
from jaxmedgen.train.parallel import ParallelSettings
from jaxmedgen.train.step import make_step
from tests.train.test_parallel import run as parallel_run

SMALL = {
    "data.train": "16",
    "data.test": "4",
    "data.shape": "(32, 32)",
    "batch_size": "8",
    "model.width": "2",
    "model.levels": "1",
    "model.hidden": "4",
    "model.latent": "4",
    "model.style_width": "2",
    "discriminator.features": "(4, 4)",
    "features.features": "(2, 4)",
    "steps": "100",
}


@functools.cache
def small(argument="arm=vae", **overrides):
    """Configuration, sources and system of a small problem."""
    overrides = {k.replace("__", "."): v for k, v in overrides.items()}
    config = load_config(f"cardiac_synthesis:cpu,{argument}", SMALL | overrides)
    sources = build_sources(config.data)
    return config, sources, base.build_system(config, sources.info)


@functools.cache
def history(layout, steps, **overrides):
    """Metrics of every step, and the last state."""
    _, sources, system = small("arm=noise", **SIMPLE, **overrides)

    def stream():
        return training_stream(sources.train, batch_size=8, seed=0, num_threads=0)

    return parallel_run(system, layout, steps, make_stream=stream)


ONE, TWO = ParallelSettings(data=1), ParallelSettings(backend="pmap", data=2)
# Little to compile: the feature network has a test of its own, and so have SPADE and two scales.
SIMPLE = {
    "features__kind": "gradients",
    "model__modulation": "clade",
    "discriminator__scales": "1",
}


@functools.cache
def fresh():
    """Variables of the system with a style encoder; training would not change what is tested."""
    init = small(**SIMPLE)[2].init
    state = jax.jit(lambda key: init(key, {}))(jax.random.key(0))
    return base.evaluation_variables(state)


def images(source, count=4):
    records = [source[i] for i in range(count)]
    return (jnp.stack([jnp.asarray(r[k]) for r in records]) for k in ("image", "label"))


def test_devices_agree():
    """Batch norms and spectral norms: two devices give one device's numbers."""
    one, many = history(ONE, 4), history(TWO, 4)
    for step, (a, b) in enumerate(zip(one[0], many[0])):
        for name in a:
            np.testing.assert_allclose(
                b[name], a[name], rtol=5e-3, atol=2e-3, err_msg=f"{name}, step {step}"
            )
    vectors = [state.players[DISCRIMINATOR].variables for state in (one[1], many[1])]
    for a, b in zip(*map(jax.tree.leaves, vectors)):
        np.testing.assert_allclose(b, a, rtol=1e-2, atol=1e-2)


def test_every_part_of_both_players_learns():
    metrics, state = history(ONE, 4)
    assert {"generator/diversity", "discriminator/discriminator_accuracy"} <= set(metrics[0])
    assert metrics[0]["discriminator/style_diversity"] > 0  # measured now and then
    assert np.isnan(metrics[1]["discriminator/style_diversity"])
    for name in ("gan", "feature_matching", "perceptual"):
        assert np.isfinite(metrics[-1][f"generator/{name}"])
    for player in (GENERATOR, DISCRIMINATOR):
        (moments,) = (
            x.nu
            for x in jax.tree.leaves(state.players[player].opt_state, is_leaf=_adam)
            if _adam(x)
        )
        flat = jax.tree_util.tree_leaves_with_path(moments)
        still = {jax.tree_util.keystr(path) for path, x in flat if not np.any(np.asarray(x) > 0)}
        # As long as no logit is beyond its margin, hinge pulls the logits' bias both ways alike.
        still = {name for name in still if not ("SpectralConv_2" in name and "bias" in name)}
        assert not still, f"no gradient reaches {still} of the {player}"


def _adam(x):
    return hasattr(x, "nu")


def test_the_feature_network_learns_first_and_is_then_left_alone():
    _, sources, system = small(features__steps="3")
    image, label = images(sources.train)
    features = system.features

    @jax.jit
    def look(key, image, label):
        variables = features.init(key, image)
        losses = [
            jax.value_and_grad(features.segmentation_loss)(variables, image, label, jnp.int32(step))
            for step in (2, 3)
        ]
        return losses, features(variables, image)

    ((early, moving), (late, still)), maps = look(jax.random.key(0), image, label)
    assert early > 0 and max(float(jnp.abs(x).max()) for x in jax.tree.leaves(moving)) > 0
    assert late == 0 and all(not np.any(x) for x in jax.tree.leaves(still))
    assert [m.shape[1:] for m in maps] == [(32, 32, 2), (16, 16, 4)]
    # What is left of the optimiser's momentum moves nothing either.
    chain = system.players()[FEATURES].optimizer
    params = {"w": jnp.ones(2)}
    state = chain.init(params)
    steps = []
    for _ in range(4):
        update, state = chain.update({"w": jnp.ones(2)}, state, params)
        steps.append(float(jnp.abs(update["w"]).max()))
    assert steps[2] > 0 and steps[3] == 0


def test_styles_are_swapped_drawn_and_interpolated():
    _, sources, system = small(**SIMPLE)
    variables = fresh()
    assert isinstance(system, base.CanSample) and isinstance(system, base.CanStylise)
    image, label = images(sources.train)
    keys = jax.random.split(jax.random.key(0), 4)

    @jax.jit
    def look(variables, image, label):
        drawn, same = system.sample(variables, keys, label)
        return {
            "drawn": drawn,
            "label": same,
            "own": system.stylise(variables, label, image),
            "scaled": system.stylise(variables, label, 3.0 * image + 7.0),
            "path": system.interpolate(
                variables, label, image, jnp.roll(image, 1, 0), jnp.linspace(0, 1, 3)
            ),
            "shown": system.show(variables, keys, {"image": image, "label": label}),
        }

    found = look(variables, image, label)
    # A volume's middle slice is read in its volume's scale, as training shows it.
    slices = dataclasses.replace(system, scaling="volume", turns=None)
    volume = jnp.stack([0.2 * image, image, 4.0 * image], 1)
    window = np.percentile(volume, (1, 99), (1, 2, 3)).swapaxes(0, 1)
    batch = {"image": image, "label": label, "window": jnp.asarray(window, jnp.float32)}
    trained = slices.prepare(batch, keys)["image"]
    both = jax.jit(lambda x: slices.net.apply(variables[GENERATOR], x, method="encode")[0])
    read = jax.jit(lambda x: slices.encode(variables, x)[0])
    np.testing.assert_allclose(read(volume), both(trained), atol=1e-4)
    assert np.abs(read(image) - both(trained)).max() > 1e-2
    np.testing.assert_array_equal(found["label"], label)
    assert found["drawn"].shape == (4, 32, 32, 1) and np.abs(found["drawn"]).max() <= 1
    # Styles are read after scaling by percentiles: units do not matter.
    np.testing.assert_allclose(found["scaled"], found["own"], atol=1e-4)
    np.testing.assert_allclose(found["path"][0], found["own"], atol=1e-5)
    assert found["path"].shape == (3, 4, 32, 32, 1)
    assert set(found["shown"]) == {"label", "real", "own_style", "next_style", "drawn_style"}


def test_a_stack_has_one_style_and_any_size_is_padded():
    """Slices of a stack are the images that the same label maps give with the same z."""
    _, sources, system = small(**SIMPLE)
    variables = fresh()
    label = jnp.stack([sources.train[i]["label"] for i in range(6)])[:, :27, :30].reshape(
        2, 3, 27, 30
    )
    keys = jax.random.split(jax.random.key(3), 2)

    @jax.jit
    def draw(variables, label):
        stack, _ = system.sample(variables, keys, label)
        single, _ = system.sample(variables, keys, label[:, 1])
        return stack, single

    stack, single = draw(variables, label)
    assert stack.shape == (2, 3, 27, 30, 1)
    np.testing.assert_allclose(stack[:, 1], single, atol=1e-5)


# A feature network and a second scale are looked at once: they take most of the tracing.
WHOLE = "arm=label,vendors=B"


@pytest.mark.parametrize(("argument", "latent"), [
    (WHOLE, 0),
    ("arm=noise,ablation=no_perceptual", 4),
    ("arm=style,modulation=clade", 4),
    ("arm=vendor,ablation=least_squares", 4),
    ("arm=pix2pixhd,ablation=single_scale,classes=8", 0),
    ("arm=unet", 0),
    ("arm=label,ablation=instance_norm", 0),
    ("arm=vae,modulation=clade_distance,ablation=no_feature_matching", 4),
])  # fmt: skip
def test_every_arm_builds_and_steps(argument, latent):
    """Shapes of a whole step; nothing is computed."""
    quick = {} if argument == WHOLE else {"discriminator__scales": "1"}
    if quick and "no_perceptual" not in argument:
        quick["features__kind"] = "gradients"
    system, state, after, metrics = traced(argument, **quick)
    learners = {GENERATOR, DISCRIMINATOR}
    assert set(system.players()) == (learners | {FEATURES} if argument == WHOLE else learners)
    assert system.net.latent == latent
    assert jax.tree.structure(after) == jax.tree.structure(state)
    names = {name.split("/")[1] for name in metrics if name.startswith("generator/")}
    drawn = "vae" in argument
    assert {"kl", "l1"} <= names if drawn else not {"kl", "l1"} & names
    assert ("perceptual" in names) == ("no_perceptual" not in argument)
    assert ("feature_matching" in names) == ("no_feature_matching" not in argument)


def traced(argument, **overrides):
    """The system with its state before and after a step, and the metrics: shapes alone."""
    _, sources, system = small(argument, **overrides)
    batch = next(training_stream(sources.train, batch_size=8, seed=0, num_threads=0))
    state = jax.eval_shape(system.init, jax.random.key(0), batch)
    step = make_step(system.objectives(), system.players(), prepare=system.prepare)
    return system, state, *jax.eval_shape(step, state, batch)


def test_styles_that_are_drawn_are_measured_and_micro_batches_refused():
    name = "discriminator/style_diversity"
    drawn = {arm: name in traced(f"arm={arm}", **SIMPLE)[-1] for arm in ("vae", "style", "label")}
    assert drawn == {"vae": True, "style": False, "label": False}
    system = small("arm=label", **SIMPLE)[2]
    with pytest.raises(ValueError, match="accumulate=2: 'generator' sees the whole batch"):
        make_step(system.objectives(), system.players(), accumulate=2)


def test_random_features_need_no_training():
    system, *_, metrics = traced("arm=label", features__kind="random", discriminator__scales="1")
    assert "generator/perceptual" in metrics and FEATURES in system.players()
    assert not system.features.trained


def test_ablations_change_what_they_say():
    assert small("arm=label,ablation=single_scale")[2].discriminator.scales == 1
    assert small("arm=label")[2].discriminator.scales == 2
    assert small("arm=label,ablation=least_squares")[2].weights.gan == "lsgan"
    assert small("arm=label,ablation=instance_norm")[2].net.generator.norm == "instance"


def test_equal_parameters_of_spade_and_its_baseline():
    """The comparison of the first claim is at equal numbers of parameters, at every size."""

    def count(size, arm):
        config = load_config(f"cardiac_synthesis:{size},arm={arm}")
        info = build_sources(small()[0].data).info
        system = base.build_system(config, info)
        state = jax.eval_shape(system.init, jax.random.key(0), {})
        params = jax.tree.leaves(state.players[GENERATOR].params)
        return sum(int(np.prod(p.shape)) for p in params)

    for size in ("cpu", "gpu", "pod"):
        ratio = count(size, "pix2pixhd") / count(size, "label")
        assert 0.9 < ratio < 1.2, (size, ratio)


def test_what_cannot_be_done_is_said():
    _, sources, system = small("arm=style,modulation=clade")
    image, label = images(sources.train)
    with pytest.raises(ValueError, match="draws no styles"):
        system.sample({}, jax.random.split(jax.random.key(0), 4), label)
    with pytest.raises(ValueError, match="reads no style"):
        small("arm=label,vendors=B")[2].stylise({}, label, image)
    with pytest.raises(ValueError, match=r"train with data.shape=\(40, 32\)"):
        big = jnp.zeros((1, 40, 32), jnp.int32)
        small()[2].render({}, big, jnp.zeros((1, 4)))
    for wrong in ("arm=unet,ablation=instance_norm", "arm=pix2pixhd,modulation=clade"):
        with pytest.raises(ValueError, match="of SPADE's generator alone"):
            small(wrong)
    with pytest.raises(ValueError, match="stacks of the phantoms have 4"):
        small("arm=label,data=stacks", data__heart_classes="8")
    with pytest.raises(ValueError, match="needs --config"):
        small("arm=label", features__kind="file")
