"""Networks of trained runs see images as they did in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.normalization import normalize
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.experiments.runs import TrainedRun
from jaxmedgen.experiments.synthetic import extractors
from jaxmedgen.nets.feature_extractor import extract, unet_extractor
from jaxmedgen.systems.base import build_system

STATISTICS = ((100.0, 900.0, 400.0, 150.0), (-50.0, 20.0, -10.0, 30.0))


class Run(TrainedRun):
    """Untrained, of two channels."""

    def variables(self, kind="last"):
        example = np.zeros((1, 8, 8, 2), np.float32)
        player = next(iter(self.system.players()))
        return {player: jax.jit(self.system.net.init)(jax.random.key(0), example)}, 7


def run(tmp_path, folder, normalization, statistics=None):
    config = load_config("unet:cpu", {"net.features": "(3, 4)", "net.deep_supervision": "False"})
    with config.unlocked():
        config.data.folder = folder
    info = DatasetInfo(("background", "organ"), ("t1", "t2"), (1.0, 1.0), ())
    prepared = Preprocessing(normalization=normalization, ct_statistics=statistics)
    return Run(tmp_path, config, info, prepared, build_system(config, info))


@pytest.fixture
def images():
    """Scans in units of their own, empty around an object."""
    rng = np.random.default_rng(0)
    made = rng.normal((400, -20), (200, 40), (3, 16, 16, 2)).astype(np.float32)
    made[:, :4] = 0
    return made * np.float32([1, 2, 3])[:, None, None, None]


@pytest.mark.parametrize(
    "normalization", ["zscore", "minmax", "percentile", "ct", ("ct", "zscore"), "none"]
)
def test_a_runs_network_sees_its_normalisation(tmp_path, monkeypatch, images, normalization):
    made = run(tmp_path, "/data", normalization, STATISTICS)
    monkeypatch.setattr(extractors, "open_run", lambda _: made)
    found = extractors.run_extractor(tmp_path)
    plain = unet_extractor(made.system.net, next(iter(made.variables()[0].values())), "plain")
    assert found.identifier == plain.identifier
    shown = np.stack([normalize(image, normalization, STATISTICS) for image in images])
    expected = extract(plain.features, shown)
    np.testing.assert_allclose(extract(found.features, images), expected, rtol=2e-3, atol=2e-4)
    for ours, theirs in zip(found.maps(jnp.asarray(images)), plain.maps(jnp.asarray(shown))):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3)


def test_phantoms_stay_and_channels_are_counted(tmp_path, images):
    images = jnp.asarray(images)
    phantoms = extractors.normalization_of(run(tmp_path, "", "zscore"))
    assert np.array_equal(phantoms(images), images)
    two = extractors.normalization_of(run(tmp_path, "/data", ("ct", "zscore"), STATISTICS))
    with pytest.raises(ValueError, match=r"images of 1 channels.* on 2"):
        two(images[..., :1])
    one = extractors.normalization_of(run(tmp_path, "/data", "ct", STATISTICS[:1]))
    np.testing.assert_allclose(
        one(images)[0], normalize(np.asarray(images[0]), "ct", STATISTICS[:1]), atol=1e-5
    )
    constant = extractors.normalization_of(run(tmp_path, "/data", "minmax"))
    assert not np.asarray(constant(jnp.ones_like(images))).any()
