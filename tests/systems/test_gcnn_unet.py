"""The group segmenter: every arm builds, trains alike on all devices, and stays equivariant."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.experiments.arms import ARMS, ArmInputs
from jaxmedgen.metrics.equivariance import equivariance_errors
from jaxmedgen.nets.group_unet import GroupUNet3D
from jaxmedgen.nets.steerable_unet import SteerableUNet
from jaxmedgen.ops.groups import act_on_image, point_group
from jaxmedgen.systems.base import CanPredict, System, build_system, evaluation_variables
from jaxmedgen.systems.segmentation.network_blocks import network_blocks
from jaxmedgen.train.objectives import LossInputs
from jaxmedgen.train.parallel import ParallelSettings
from tests.train.test_parallel import run as parallel_run

TINY = {
    "data.shape": "(16, 16, 16)",
    "data.train": "8",
    "data.validation": "1",
    "data.test": "1",
    "net.depth": "1",
    "batch_size": "4",
}
GROUP = {"net.base_filters": "4"}
INFO = DatasetInfo(("background", "bar", "l_shape"), ("image",), (1.0, 1.0, 1.0), ())


def build(arm, info=INFO, **overrides):
    settings = TINY | ({} if arm == "steerable" else GROUP) | overrides
    return build_system(load_config(f"gcnn_unet:cpu,arm={arm}", settings), info)


def test_arms_have_their_networks():
    found = {}
    for arm in ("baseline", "c4_features", "c4_parameters", "c4_filters", "d4", "o", "oh"):
        system = build(arm, **{"net.base_filters": "12"})
        assert isinstance(system, System) and isinstance(system, CanPredict)
        found[arm] = (system.net.group.order, system.net.filters)
    assert found == {
        "baseline": (1, 12),
        "c4_features": (4, 3),
        "c4_parameters": (4, 6),
        "c4_filters": (4, 12),
        "d4": (8, 4),
        "o": (24, 2),
        "oh": (48, 2),
    }
    axes = [build(f"c4_axis{k}").net.group for k in range(3)]
    assert [set(np.flatnonzero(g.matrices[1].diagonal() == 1)) for g in axes] == [{0}, {1}, {2}]
    assert build("baseline_rotation").rotation.group == point_group("O")
    assert build("baseline_average").average_over == point_group("O")
    assert isinstance(build("steerable").net, SteerableUNet)


def test_voxels_that_do_not_fit_are_refused():
    thick = dataclasses.replace(INFO, spacing=(1.0, 1.0, 3.0))
    for arm in ("o", "c4_axis0", "baseline_rotation", "baseline_average"):
        with pytest.raises(ValueError, match="voxels"):
            build(arm, thick)
    for arm in ("c4_parameters", "d4", "v", "steerable"):
        build(arm, thick)
    # The axis is that of turns in training and in prediction, too.
    thick, about = dataclasses.replace(INFO, spacing=(3.0, 1.0, 1.0)), {"net.axis": "0"}
    first = point_group("C4", axis=0)
    assert build("baseline_rotation,group=C4", thick, **about).rotation.group == first
    assert build("baseline_average,group=C4", thick, **about).average_over == first
    flat = dataclasses.replace(INFO, spacing=(1.0, 1.0))
    with pytest.raises(ValueError, match="p1, p2, p4"):
        build("o", flat)
    with pytest.raises(ValueError, match="moex"):
        build("o", **{"augment.preset": "moex_in"})


def run(layout):
    overrides = {"net.group": "C4", "net.depth": "0", "net.dropout": "0.3"}
    config = load_config("gcnn_unet:cpu,arm=baseline_rotation", TINY | GROUP | overrides)
    config.net.unlock().label_smoothing = True
    sources = build_sources(config.data)

    def stream():
        return training_stream(sources.train, batch_size=4, seed=0, num_threads=0)

    return parallel_run(build_system(config, sources.info), layout, 5, make_stream=stream)[0]


@pytest.mark.slow
def test_parity_over_devices_with_dropout_turns_and_smoothing():
    """Per-sample keys and global statistics: one device and four give the same numbers."""
    one, four = run(ParallelSettings(data=1)), run(ParallelSettings(backend="pmap", data=4))
    for a, b in zip(one, four):
        np.testing.assert_allclose(b["loss"], a["loss"], rtol=1e-4)
    assert one[-1]["loss"] < one[0]["loss"]


def drawn_for(shapes, rng):
    """Kernels of either sign, scales and variances above zero."""

    def drawn(leaf):
        values = rng.normal(0, 0.4, leaf.shape) if leaf.ndim > 1 else rng.uniform(size=leaf.shape)
        return jnp.asarray(values, jnp.float32)

    return jax.tree.map(drawn, shapes)


def test_predictions_with_dropout_commute_with_the_group():
    system = build("v", **{"net.val_samples": "2", "net.dropout": "0.3", "net.depth": "0"})
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 6, 6, 6, 1)), jnp.float32)
    random = drawn_for(jax.eval_shape(system.net.init, jax.random.key(0), x), rng)
    predict = jax.jit(lambda x: system.predict({"segmenter": random}, x))
    assert np.asarray(predict(x)).std((0, 1, 2, 3)).min() > 0.02, "saturated outputs tell nothing"
    assert equivariance_errors(predict, x, system.net.group).max() < 1e-4
    # No sample depends on its place in the batch.
    np.testing.assert_allclose(predict(x[::-1])[::-1], predict(x), atol=1e-5)


@pytest.mark.parametrize("passes", [1, 2])
def test_a_plain_network_is_averaged_over_turned_images_in_logits_or_probabilities(passes):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, 4, 4, 6, 1)), jnp.float32)
    settings = {"net.average_over": "D4", "net.depth": "0", "net.val_samples": str(passes)}
    settings |= {"net.dropout": "0.3" if passes > 1 else "0.0"}
    plain = build("baseline", **settings | {"net.average_over": ""})
    random = drawn_for(jax.eval_shape(plain.net.init, jax.random.key(0), x), rng)
    turns = point_group("D4").matrices
    turned = [plain.predict({"segmenter": random}, act_on_image(x, m)) for m in turns]
    turned = np.stack([act_on_image(y, m.T) for y, m in zip(turned, turns)]).astype(np.float64)
    # A mean of logits is the geometric mean of probabilities, normalised.
    product = np.exp(np.log(turned).mean(0))
    expected = {
        "logits": product / product.sum(-1, keepdims=True),
        "probabilities": turned.mean(0),
    }
    assert np.abs(expected["logits"] - expected["probabilities"]).max() > 1e-3
    assert build("baseline_average", **settings).average_of == "logits"
    for kind, mean in expected.items():
        system = build("baseline", **settings | {"net.average_of": kind})
        np.testing.assert_allclose(system.predict({"segmenter": random}, x), mean, atol=2e-6)
    with pytest.raises(ValueError, match="average_of='votes'"):
        build("baseline", **settings | {"net.average_of": "votes"})


def test_constructor_blocks_become_transforms():
    def blocks(**settings):
        net = GroupUNet3D(point_group("C4"), 2, 1, (16,) * 3, **settings)
        return network_blocks(net, (1.0, 1.0, 1.0))

    assert blocks() is None
    turned = blocks(rotation_params=(True,), blur_params=(True, 0.0, 2.0))
    assert turned.spatial.rotation.high == 15 and turned.intensity.blur.high == 2.0
    assert blocks(transform_params=(True,)).spatial.shear.high == 5
    assert blocks(transform_params=(True, "diffeo", 0.5)).spatial.deformation.high == 2
    assert blocks(transform_params=(True, "elastic")).spatial.elastic.high == 7.5
    with pytest.raises(ValueError, match="affine"):
        blocks(transform_params=(True, "shake"))
    around = {"augment.background": "0.0", "net.rotation_params": "(True, 40)"}
    assert build("c4_parameters", **around).blocks.background == 0


def exchanged(name, labelled, tmp_path, **overrides):
    """The system of a study's arm."""
    config = load_config("ablation:cpu", overrides)
    training = ARMS[name].prepare(ArmInputs(config, labelled, tmp_path, 0, tmp_path))
    with config.unlocked():
        config.net = training.changes["net"]
        config.system = training.changes["system"]
        config.augment.group = training.changes["augment.group"]
        config.data.shape = labelled[0]["label"].shape
    return build_system(config, labelled.info)


@pytest.mark.parametrize(
    ("name", "order", "filters"),
    [
        ("c4", 4, 4),
        ("octahedral", 24, 2),
        ("gunet", 1, 8),
        ("gunet-wide", 1, 8),
        ("gunet-turned", 1, 8),
        ("gunet-averaged", 1, 8),
        ("gunet-c4-features", 4, 2),
        ("gunet-c4-filters", 4, 8),
        ("gunet-v", 4, 4),
        ("gunet-d4", 8, 3),
    ],
)
def test_study_arms_exchange_the_network(name, order, filters, tmp_path):
    labelled = build_sources(load_config("gcnn_unet:cpu", TINY).data).train
    system = exchanged(name, labelled, tmp_path)
    net = system.net
    assert (net.group.order, net.filters, net.depth, net.norm) == (order, filters, 2, "instance")
    maps = order * filters * np.sqrt(net.c_factor)
    assert maps == {"c4": 16, "gunet-wide": 16}.get(name, maps) and (name != "gunet" or maps == 8)
    # Every head sees as many features as the plain network's does.
    assert net.head_features == (8 if order > 1 else 0)
    quarter = point_group("C4")
    assert (system.rotation is not None) == (name == "gunet-turned")
    assert system.rotation is None or system.rotation.group == quarter
    assert system.average_over == (quarter if name == "gunet-averaged" else None)


def test_study_arms_take_the_groups_of_the_plane_for_images(tmp_path):
    flat = TINY | {"data.shape": "(16, 16)"}
    labelled = build_sources(load_config("gcnn_unet:cpu", flat).data).train
    for name, group in (("c4", "p4"), ("gunet", "p1"), ("gunet-v", "p2"), ("gunet-d4", "p4m")):
        assert exchanged(name, labelled, tmp_path).net.group == point_group(group)
    turned = exchanged("gunet-turned", labelled, tmp_path)
    assert turned.rotation.group == point_group("p4")
    assert exchanged("gunet-averaged", labelled, tmp_path).average_over == point_group("p4")
    with pytest.raises(ValueError, match="take c4, or gunet-d4"):
        exchanged("octahedral", labelled, tmp_path)
    with pytest.raises(ValueError, match="steerable networks are 3D"):
        exchanged("steerable", labelled, tmp_path)
    solid = build_sources(load_config("gcnn_unet:cpu", TINY).data).train
    net = exchanged("steerable", solid, tmp_path).net
    assert isinstance(net, SteerableUNet) and net.depth == 2


def test_the_loss_is_half_cross_entropy_half_dice_and_the_penalty_on_unexpanded_weights():
    system = build("c4_parameters", **{"net.kernel_reg": "0.01", "net.depth": "0"})
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(2, 6, 6, 6, 1)), jnp.float32)
    label = rng.integers(0, 3, (2, 6, 6, 6))
    label[1] = np.minimum(label[1], 1)  # Dice is that of the batch, not the mean over samples
    batch = {"image": image, "label": jnp.asarray(label, jnp.int32)}
    state = jax.jit(system.init)(jax.random.key(0), batch)
    variables = evaluation_variables(state)
    keys = jax.random.split(jax.random.key(1), 2)
    inputs = LossInputs(variables, {}, batch, keys, keys[0], jnp.int32(0))
    (objective,) = system.objectives()

    @jax.jit
    def both(inputs):
        logits, _ = system.net.apply(
            inputs.variables["segmenter"], image, True, method="logits", mutable=["batch_stats"]
        )
        return objective.loss(inputs)[0], logits

    value, logits = both(inputs)
    p = special.softmax(np.asarray(logits, np.float64), -1)
    g = np.eye(3)[label]
    cross_entropy = -(g * np.log(p)).sum(-1).mean()
    over = (0, 1, 2, 3)
    dice = (2 * (p * g).sum(over) + 1e-5) / (p.sum(over) + g.sum(over) + 1e-5)
    leaves = jax.tree.leaves(variables["segmenter"]["params"])
    kernels = [np.asarray(leaf, np.float64) for leaf in leaves if leaf.ndim > 1]
    assert sorted(k.shape for k in kernels) == [
        (1, 1, 1, 2, 3),
        (3, 3, 3, 1, 2),
        (3, 3, 3, 4, 2, 2),
    ]
    penalty = 0.01 * sum((k**2).sum() for k in kernels)
    expected = 0.5 * cross_entropy + 0.5 * (1 - dice[1:].mean()) + penalty
    np.testing.assert_allclose(value, expected, rtol=1e-5)
