"""Draws, paths, uncertainty and scores of models with latent levels; the command line's files."""

import json
from typing import ClassVar

import jax
import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.cli.main import main
from jaxmedgen.experiments import shape_generation as generation

SMALL = [
    "--config.data.shape=(16, 16)",
    "--config.data.train=24",
    "--config.data.validation=0",
    "--config.data.test=10",
    "--config.batch_size=8",
    "--config.model.architecture=mlp",
    "--config.model.widths=(8,)",
    "--config.model.latents=3",
    "--config.steps=4",
    "--config.criterion.warm_up=2",
    "--config.show_every=0",
    "--config.checkpoint_every=4",
    "--config.parallel.data=1",
]


class TwoLevels:
    """A model whose images are its latent numbers, so that every path can be checked."""

    levels: ClassVar = {"top": 2, "bottom": 1}

    def target(self, batch):
        return batch["image"]

    def encode_levels(self, variables, batch):
        x = batch["image"][:, :, 0]
        return {"top": (x[:, :2], jnp.zeros_like(x[:, :2])), "bottom": (x[:, 2:], x[:, 2:] * 0)}

    def prior_levels(self, variables, noise, batch):
        return {"top": noise["top"], "bottom": noise["bottom"] + noise["top"].sum(1, keepdims=True)}

    def decode_levels(self, variables, latents, batch):
        return jnp.concatenate([latents["top"], latents["bottom"]], 1)[..., None]


def test_draws_are_of_the_levels_that_are_asked_for():
    system, batch = TwoLevels(), {"image": jnp.zeros((250, 3, 1))}
    both = generation.draw(system, {}, batch, 0)[..., 0]
    np.testing.assert_allclose(both[:, :2].std(0), 1, atol=0.15)
    np.testing.assert_allclose(both[:, 2].std(), np.sqrt(3), atol=0.25)
    lower = generation.draw(system, {}, batch, 0, "bottom")[..., 0]
    assert not lower[:, :2].any()
    np.testing.assert_allclose(lower[:, 2], both[:, 2] - both[:, :2].sum(1), atol=1e-5)
    np.testing.assert_array_equal(generation.draw(system, {}, batch, 0), both[..., None])
    with pytest.raises(ValueError, match="choose one of top, bottom"):
        generation.level_noise(system, jax.random.split(jax.random.key(0), 2), "middle")


def test_paths_and_uncertainty():
    system = TwoLevels()
    pair = {"image": jnp.array([[0.0, 0, 0], [1, 2, 4]])[..., None], "target": jnp.array([3, 7])}
    line = generation.interpolate(system, {}, pair, 5)[..., 0]
    np.testing.assert_allclose(line, np.outer(np.linspace(0, 1, 5), [1, 2, 4]), atol=1e-6)
    one = {name: x[1:] for name, x in pair.items()}
    moved = generation.traverse(system, {}, one, "top", 1, (-1.0, 5.0))[..., 0]
    np.testing.assert_array_equal(moved, [[1, -1, 4], [1, 5, 4]])
    mean, deviation = generation.uncertainty(system, {}, pair, 0, samples=400)
    np.testing.assert_allclose(mean, pair["image"], atol=0.2)
    np.testing.assert_allclose(deviation, 1, atol=0.15)


def test_means_over_unequal_parts_weigh_every_sample_once():
    batch = {"x": jnp.arange(7.0)}
    found = generation.in_chunks(jax.jit(lambda b: b["x"] ** 2), batch, chunk=3)
    np.testing.assert_array_equal(found, np.arange(7.0) ** 2)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work") / "cvae"
    arguments = ["train", "--config", "vae:cpu,arm=cvae-learned", "--workdir", str(folder), *SMALL]
    assert main(arguments) == 0
    return folder


def test_a_conditional_model_samples_and_is_scored(workdir, tmp_path, capsys):
    sample = ["sample", "--workdir", str(workdir), "--output", str(tmp_path / "a"), "--count", "3"]
    assert main([*sample, "--condition", "4"]) == 0
    image = nib.load(tmp_path / "a/images/sample_00002.nii.gz").get_fdata()
    assert image.shape[:2] == (16, 16) and 0 <= image.min() <= image.max() <= 1
    assert nib.load(tmp_path / "a/labels/sample_00000.nii.gz").get_fdata().max() <= 1
    assert main([*sample[:3], "--output", str(tmp_path / "b"), "--count", "4",
                 "--method", "uncertainty"]) == 0  # fmt: skip
    assert len(list((tmp_path / "b/deviations").iterdir())) == 4
    assert main(["evaluate", "--workdir", str(workdir)]) == 0
    scores = json.loads((workdir / "evaluation.json").read_text())
    assert scores["elbo"] <= scores["iwae"] and 0 <= scores["specificity"] <= 1
    assert scores["elbo"] == pytest.approx(scores["log_likelihood"] - scores["kl"], rel=1e-4)
    # Their sum is the bound's KL, which does not depend on the draw.
    assert len(scores["kl_of_dimensions"]["z"]) == 3
    assert sum(scores["kl_of_dimensions"]["z"]) == pytest.approx(scores["kl"], rel=1e-4)
    assert "nats of z" in capsys.readouterr().out
    for wrong, said in (("12", "give classes from 0 to 9"), ("1,2", "has 1 numbers"),
                        ("x", "give a class or numbers")):  # fmt: skip
        assert main([*sample, "--condition", wrong]) != 0
        assert said in capsys.readouterr().err
    assert main([*sample, "--method", "magic"]) != 0
    assert "choose one of prior, interpolation, uncertainty, z" in capsys.readouterr().err
