"""What ``bin/sample`` writes for untrained models of several kinds."""

import dataclasses
import functools
import json

import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.cli.main import main
from jaxmedgen.configuration import load_config, set_value
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.sources import ArraySource
from jaxmedgen.experiments.shape_files import write_shapes
from jaxmedgen.experiments.shape_generation import batch_of
from jaxmedgen.ops.metric_shooting import path_energy
from jaxmedgen.ops.riemannian_metric import CentroidMetric
from jaxmedgen.systems import base
from jaxmedgen.systems.shape.rhvae_training import PLAYER
from tests.systems.hcvae_toys import tiny, variables_of
from tests.systems.test_lvae import small as ladder
from tests.systems.test_rhvae import small as junctions


def images_of(folder, part="images"):
    return np.stack([nib.load(path).get_fdata() for path in sorted((folder / part).iterdir())])


def told_by(folder):
    return json.loads((folder / "samples.json").read_text())


def test_uncertainty_from_planes_does_not_see_the_volume(tmp_path):
    """Another true volume, the same planes: the same files. The posterior would differ."""
    _, sources, system = tiny("arm=hcvae")
    variables = variables_of(system)
    blind = [{**sources.test[i], "label": 0 * sources.test[i]["label"]} for i in range(2)]
    without = dataclasses.replace(sources, test=ArraySource(blind, sources.test.info))
    for name, given in (("seen", sources), ("blind", without)):
        write_shapes(given, system, variables, tmp_path / name, 2, 0, "uncertainty")
    for part in ("images", "deviations", "labels"):
        np.testing.assert_array_equal(*(images_of(tmp_path / n, part) for n in ("seen", "blind")))
    assert images_of(tmp_path / "seen", "deviations").max() > 1e-3
    assert told_by(tmp_path / "seen")["draws"] == "prior"


def test_uncertainty_of_a_ladder_is_that_of_its_posterior(tmp_path):
    _, sources, system = ladder()
    variables = variables_of(system)
    told = write_shapes(sources, system, variables, tmp_path, 2, 0, "uncertainty")
    assert told == {"draws": "posterior"}
    assert images_of(tmp_path).shape[:4] == (2, 16, 16, 16)
    write_shapes(sources, system, variables, tmp_path / "top", 1, 0, "z1")
    assert len(list((tmp_path / "top/images").iterdir())) == 1
    with pytest.raises(ValueError, match="has no condition"):
        write_shapes(sources, system, variables, tmp_path, 2, 0, condition="1")


@functools.cache
def curved():
    """An untrained model whose two centroids a kind make a bent metric."""
    sources, system = junctions("rhvae", steps="3", data__test="8")
    variables = {name: dict(value) for name, value in variables_of(system).items()}
    rng = np.random.default_rng(0)
    factors = np.tril(0.5 * rng.standard_normal((8, 2, 2)), -1) + np.eye(2)
    variables[PLAYER]["metric"] = {
        "centroids": jnp.asarray(rng.standard_normal((8, 2)), jnp.float32),
        "factors": jnp.asarray(factors, jnp.float32),
        "kind": jnp.arange(8, dtype=jnp.int32) % 4,
    }
    return sources, system, variables


def test_draws_of_a_learned_metric_tell_how_they_came_about(tmp_path):
    sources, system, variables = curved()
    told = write_shapes(sources, system, variables, tmp_path, 4, 0)
    assert told["sampler"] == "manifold" and 0 < told["acceptance"]["worst"] <= 1
    assert told["acceptance"]["worst"] <= told["acceptance"]["mean"] <= 1
    assert 0 < told["distance"]["mean"] <= told["distance"]["worst"] < 2  # within S
    assert told_by(tmp_path)["distance"] == told["distance"]
    normal = dataclasses.replace(
        system, sampling=dataclasses.replace(system.sampling, prior="normal")
    )
    assert "acceptance" not in write_shapes(sources, normal, variables, tmp_path, 4, 0)


def test_interpolation_is_the_geodesic_and_stays_with_one_kind(tmp_path):
    sources, system, variables = curved()
    ends = {"z": jnp.array([[-1.0, 0.3], [1.2, 0.5]])}
    pair = batch_of(sources.test, [1, 5], system)
    way = system.between_levels(variables, ends, pair, 17)["z"]
    np.testing.assert_allclose(way[jnp.array([0, -1])], ends["z"], atol=1e-5)
    metric = CentroidMetric(*(x[1] for x in system.metric(variables)))
    line = jnp.linspace(ends["z"][0], ends["z"][1], 17)
    lengths = [path_energy(metric, path[:, None])[1][0] for path in (way, line)]
    assert lengths[0] < 0.99 * lengths[1]
    write_shapes(sources, system, variables, tmp_path, 3, 0, "interpolation", condition="2")
    assert len(images_of(tmp_path)) == 3
    mixed = batch_of(sources.test, [0, 1], system)
    with pytest.raises(ValueError, match=r"'kind' 0 and 1: each kind has a latent space"):
        system.check_pair(mixed)
    few = dataclasses.replace(sources, test=ArraySource([sources.test[0], sources.test[1]],
        dataclasses.replace(sources.test.info, case_names=("a", "b"))))  # fmt: skip
    with pytest.raises(ValueError, match=r"'kind' [01] and [01]"):
        write_shapes(few, system, variables, tmp_path, 3, 0, "interpolation")
    with pytest.raises(ValueError, match="there are 0 of --condition 3"):
        write_shapes(few, system, variables, tmp_path, 3, 0, "interpolation", condition="3")


def test_records_of_unknown_classes_are_refused_on_the_host(tmp_path, capsys):
    sources, system, _ = curved()
    beyond = ArraySource([{**sources.test[0], "kind": np.int32(4)}],
                         dataclasses.replace(sources.test.info, case_names=("fifth",)))  # fmt: skip
    with pytest.raises(ValueError, match=r"fifth: 'kind' \(model.kinds\) has labels \[4\]"):
        batch_of(beyond, [0], system)
    arguments = ["train", "--config", "vae:cpu,arm=cvae", "--workdir", str(tmp_path / "run")]
    small = {"data.train": "8", "data.test": "2", "data.validation": "0", "batch_size": "4",
             "model.architecture": "mlp", "model.widths": "(4,)", "steps": "2",
             "condition.classes": "2", "parallel.data": "1"}  # fmt: skip
    assert main([*arguments, *(f"--config.{k}={v}" for k, v in small.items())]) != 0
    said = capsys.readouterr().err
    assert "'target' (condition.classes) has labels" in said and "from 0 to 1" in said
    assert "while reading subject" in said
    config = load_config("vae:cpu,arm=cvae")
    for key, value in small.items():
        set_value(config, key, value)
    sources = build_sources(config.data)
    assert isinstance(base.build_system(config, sources.info), base.CanCheckRecords)


def test_a_trained_run_draws_by_another_sampler(tmp_path, capsys):
    run, out = str(tmp_path / "run"), str(tmp_path / "out")
    small = {"data.train": "8", "data.test": "4", "batch_size": "8", "model.latents": "2",
             "model.hidden": "4", "criterion.iterations": "1", "steps": "2",
             "checkpoint_every": "2", "parallel.data": "1"}  # fmt: skip
    arguments = ["train", "--config", "rhvae:cpu,arm=vae", "--workdir", run]
    assert main([*arguments, *(f"--config.{k}={v}" for k, v in small.items())]) == 0
    sample = ["sample", "--workdir", run, "--output", out, "--count", "2"]
    assert main([*sample, "--config.sampling.prior=wrapped"]) == 0
    assert "sampler: wrapped" in capsys.readouterr().out
    assert main([*sample, "--config.model.kinds=3"]) != 0
    assert "only those of 'sampling' may change" in capsys.readouterr().err
    assert main([*sample, "--config.sampling.prior=uniform"]) != 0
    assert "sampling.prior='uniform': choose" in capsys.readouterr().err
