"""dSprites' file: the right images with the right factors, disjoint parts, refused files."""

import itertools

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config
from jaxmedgen.data import dsprites
from jaxmedgen.data.build import build_sources

NAME = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
SCALES, ANGLES, PLACES = (0.5, 1.0), np.linspace(0, 2 * np.pi, 4), np.linspace(0, 1, 3)


@pytest.fixture
def folder(tmp_path):
    """A file like the published one, smaller: a pixel where x and y say, its number in the rest."""
    rows = list(itertools.product((1.0,), (1.0, 2.0, 3.0), SCALES, ANGLES, PLACES, PLACES))
    images = np.zeros((len(rows), 8, 8), np.uint8)
    for number, (*_, x, y) in enumerate(rows):
        images[number, round(y * 7), round(x * 7)] = 1
    np.savez_compressed(
        tmp_path / NAME,
        metadata=np.array({"title": "never unpickled"}, dtype=object),
        imgs=images,
        latents_values=np.array(rows),
    )
    return tmp_path


def settings(folder, **changes):
    values = {"folder": str(folder), "shape": (8, 8), "seed": 0}
    return ConfigDict(values | {"train": 100, "validation": 5, "test": 60} | changes)


@pytest.mark.parametrize("block", [64, 1000, 2**24])
def test_images_are_those_of_their_factors(folder, monkeypatch, block):
    """However the file is cut into blocks, and in the order in which they were drawn."""
    monkeypatch.setattr(dsprites, "_BLOCK", block)
    parts = dsprites.dsprites_parts(settings(folder))
    assert [len(part) for part in parts] == [100, 5, 60]
    names = [name for part in parts for name in part.info.case_names]
    assert len(set(names)) == 165
    rows = list(itertools.product((1.0,), (1.0, 2.0, 3.0), SCALES, ANGLES, PLACES, PLACES))
    for part in parts:
        for number in range(len(part)):
            record, name = part[number], part.info.case_names[number]
            _, shape, *pose = rows[int(name.removeprefix("sprite-"))]
            np.testing.assert_allclose(record["factors"], [shape - 1, *pose], rtol=1e-6)
            assert record["kind"] == shape - 1
            expected = np.zeros((8, 8, 1))
            expected[round(pose[3] * 7), round(pose[2] * 7)] = 1
            np.testing.assert_array_equal(record["image"], expected)
    assert len(parts[0][0]["factors"]) == len(dsprites.FACTORS)


def test_a_seed_draws_the_same_images(folder):
    first, again, other = (
        dsprites.dsprites_parts(settings(folder, seed=seed))[0].info.case_names
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_the_configuration_reads_it(folder):
    changes = {"data.folder": str(folder / NAME), "data.shape": "(8, 8)"}
    changes |= {"data.train": "6", "data.test": "3"}
    config = load_config("it_vae:cpu,data=dsprites", changes)
    assert config.model.likelihood == "bernoulli"
    sources = build_sources(config.data)
    assert (len(sources.train), len(sources.test)) == (6, 3)
    assert sources.train[0]["image"].shape == (8, 8, 1)
    assert tuple(load_config("it_vae:cpu,data=dsprites").data.shape) == (64, 64)


def test_files_that_are_not_right_are_refused(folder):
    with pytest.raises(ValueError, match="has 216 images"):
        dsprites.dsprites_parts(settings(folder, train=200))
    with pytest.raises(ValueError, match=r"images of \(8, 8\)"):
        dsprites.dsprites_parts(settings(folder, shape=(64, 64)))
    with pytest.raises(ValueError, match="holds no dsprites"):
        dsprites.dsprites_parts(settings(folder / "nowhere"))
    with pytest.raises(ValueError, match="holds no dsprites"):
        dsprites.dsprites_parts(settings(""))
    (folder / NAME).write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not dSprites' file"):
        dsprites.dsprites_parts(settings(folder))
    np.savez(folder / NAME, imgs=np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="not dSprites' file"):
        dsprites.dsprites_parts(settings(folder))
