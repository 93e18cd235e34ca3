"""``bin/sample`` of classifiers of shapes: draws of a class, the walk, walls, the latent space."""

import csv
import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.sources import ArraySource
from jaxmedgen.experiments import sampling
from jaxmedgen.experiments.remodelling.latent_files import write_latents
from jaxmedgen.systems.shape.lvae import LadderShapeVae
from tests.systems.test_lvae import small

NAMES = ("healthy", "HCM")
SPACING = 7.0


class Hollow(LadderShapeVae):
    """Cups whose wall grows with the first latent number: 14 mm at 0, 7 more with each unit."""

    def encode_levels(self, variables, batch):
        z = batch["image"][:, 0, 0, 0, :]
        return {self.top: (z, jnp.zeros_like(z))}

    def scores(self, variables, z):
        return jnp.stack([jnp.zeros(len(z)), 4 * z[:, 0]], -1)

    def decode_below(self, variables, given, noise=None):
        z = given[self.top][:, 0, None, None, None]
        height, *across = jnp.meshgrid(*[jnp.arange(16.0)] * 3, indexing="ij")
        radius = jnp.hypot(across[0] - 7.5, across[1] - 7.5)
        outer = jnp.minimum(2 + 2 + z - radius, height - 1)
        inner = jnp.minimum(2 - radius, height - 5)
        wall = jax.nn.sigmoid(20 * jnp.minimum(outer, -inner)) * (height < 14)
        return jnp.repeat(wall[..., None], 2, -1)


@pytest.fixture(scope="module")
def cups():
    """The toy and subjects whose latents are known: classes about -1 and 1."""
    _, sources, system = small()
    toy = Hollow(**{f.name: getattr(system, f.name) for f in dataclasses.fields(system)})
    rng = np.random.default_rng(0)

    def subjects(count):
        records, names = [], tuple(f"case{k}" for k in range(count))
        for k in range(count):
            image = np.zeros((16, 16, 16, 2), np.float32)
            image[0, 0, 0] = rng.normal((2 * (k % 2) - 1, 0), 0.2)
            records.append({"image": image, "target": np.int32(k % 2)})
        return ArraySource(records, dataclasses.replace(sources.info, case_names=names))

    return dataclasses.replace(sources, train=subjects(20), test=subjects(6)), toy


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_draws_of_a_class_are_a_folder_to_train_on(cups, tmp_path):
    sources, toy = cups
    told = write_latents(sources, toy, {}, NAMES, tmp_path, 4, 0, "", "hcm")
    assert told["class"] == "HCM" and told["subjects"] == 10 and told["density"] == "gaussian"
    assert rows_of(tmp_path / "labels/classes.csv")[3] == {"case": "sample_00003", "class": "HCM"}
    mask = nib.load(tmp_path / "labels/sample_00003_ES.nii.gz")
    assert mask.shape == (16, 16, 16) and set(np.unique(mask.dataobj)) == {0, 1}
    assert mask.header.get_zooms() == (SPACING,) * 3
    # Walls of the mean shape: 14 mm and 7 more at a mean of 1, short of it at the rounded ends.
    walls = rows_of(tmp_path / "segments.csv")
    assert [row["phase"] for row in walls] == ["ED", "ES"]
    assert float(walls[0]["AHA7"]) == pytest.approx(21, abs=3)
    assert (tmp_path / "walls_ED.png").exists() and (tmp_path / "mean/HCM_ED.nii.gz").exists()
    healthy = tmp_path / "healthy"
    write_latents(sources, toy, {}, NAMES, healthy, 2, 0, "kde", "0")
    assert float(rows_of(healthy / "segments.csv")[0]["AHA7"]) == pytest.approx(7, abs=3)
    for method, condition, said in (
        ("", "ACDC", "choose one of healthy, HCM"),
        ("interpolation", "HCM", "goes with --method prior, kde or z1"),
        ("kde", "", "goes with --method prior, kde or z1"),
        ("navigate", "HCM", "navigate shows all classes; one goes with --method prior"),
    ):
        with pytest.raises(ValueError, match=said):
            write_latents(sources, toy, {}, NAMES, tmp_path, 2, 0, method, condition)
    few = dataclasses.replace(sources, train=ArraySource([sources.train[0], sources.train[1]],
        dataclasses.replace(sources.train.info, case_names=("a", "b"))))  # fmt: skip
    with pytest.raises(ValueError, match="1 training subjects of class HCM in 2 dimensions"):
        write_latents(few, toy, {}, NAMES, tmp_path, 2, 0, "kde", "HCM")


def test_the_walk_is_written_step_by_step(cups, tmp_path):
    sources, toy = cups
    told = write_latents(sources, toy, {}, NAMES, tmp_path, 8, 0, "navigate")
    steps = rows_of(tmp_path / "walk.csv")
    chances = [float(row["probability"]) for row in steps]
    assert len(steps) == told["steps"] + 1 and np.all(np.diff(chances) > -1e-6)
    assert 5 < len(steps) < 50
    assert float(steps[0][f"{toy.top}[0]"]) == pytest.approx(-1, abs=0.2) and chances[-1] > 0.95
    assert told["probabilities"][2] == pytest.approx(0.5, abs=0.2)
    walls = [float(row["AHA8"]) for row in rows_of(tmp_path / "segments.csv")[:5]]
    assert np.all(np.diff(walls) > 0) and walls[-1] - walls[0] > 7
    assert len(list((tmp_path / "images").iterdir())) == 10
    for name in ("walk", "walls_ED", "difference_ES"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
    assert json.loads((tmp_path / "samples.json").read_text())["walk"] == "healthy to HCM"
    unclassified = dataclasses.replace(
        toy, criterion=dataclasses.replace(toy.criterion, classification=0.0)
    )
    with pytest.raises(ValueError, match="follows a classifier"):
        write_latents(sources, unclassified, {}, NAMES, tmp_path, 2, 0, "navigate")


def test_the_latent_space_is_a_picture_and_a_table(cups, tmp_path):
    sources, toy = cups
    told = write_latents(sources, toy, {}, NAMES, tmp_path, 8, 0, "space")
    assert told["picture"] == "latents" and (tmp_path / "space.png").exists()
    rows = rows_of(tmp_path / "latents.csv")
    assert [row["part"] for row in rows].count("test") == 6 and len(rows) == 26
    place = np.array([[float(row["x"]), float(row["y"])] for row in rows[:20]])
    known = [sources.train[k]["image"][0, 0, 0] for k in range(20)]
    np.testing.assert_allclose(place, known, atol=1e-6)
    assert nib.load(tmp_path / "images/mean_HCM_ED.nii.gz").shape == (16, 16, 16)


class Long(Hollow):
    """The same with four numbers at the top, which are to be embedded."""

    def encode_levels(self, variables, batch):
        z = batch["image"][:, 0, 0, 0, :]
        z = jnp.concatenate([z, z**2], -1)
        return {self.top: (z, jnp.zeros_like(z))}


def test_a_run_is_asked_from_the_command_line(cups, tmp_path, monkeypatch):
    sources, toy = cups
    long = Long(**{f.name: getattr(toy, f.name) for f in dataclasses.fields(toy)})
    config = load_config("hcm_vae:cpu")
    run = SimpleNamespace(config=config, system=long, variables=lambda kind: ({"vae": {}}, 1))
    monkeypatch.setattr(sampling, "open_run", lambda workdir, overrides: run)
    monkeypatch.setattr(sampling, "build_sources", lambda data: sources)
    settings = {"config": None, "workdir": tmp_path, "output": tmp_path / "a", "seed": 0}
    told = sampling.sample_run(**settings, count=2, method="space")
    assert told["picture"] == "Laplacian eigenmap" and told["dimensions"] == 4
    assert len(rows_of(tmp_path / "a/latents.csv")) == 26
    assert sampling.sample_run(**settings, count=2, condition="HCM")["class"] == "HCM"
    with pytest.raises(ValueError, match="navigate, space, kde"):
        sampling.sample_run(**settings, count=2, method="magic")
