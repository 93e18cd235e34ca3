"""Synthetic subjects of a Riemannian VAE of labelled subjects, and clusters along geodesics."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from jaxmedgen.configuration import load_config
from jaxmedgen.data.phantoms.shapes import Shapes
from jaxmedgen.data.sources import ArraySource, DatasetInfo, subset
from jaxmedgen.experiments import model_training, rhvae_arm
from jaxmedgen.experiments.arms import ARMS
from jaxmedgen.experiments.synthetic import generator_sources
from jaxmedgen.metrics.geodesic_clusters import clusters_of, graph_distances
from jaxmedgen.ops.riemannian_metric import metric_of_factors
from jaxmedgen.systems import base
from jaxmedgen.train.objectives import LossInputs


def test_subjects_are_drawn_on_the_grid_of_the_real_ones(monkeypatch, tmp_path):
    labelled = subset(Shapes(3, (24, 20), 0), (0, 1, 2))
    seen = {}

    def untrained(config, sources, system, *arguments, **settings):
        """What `train` returns, with the centroids of the last pass and without a step."""
        seen.update(config=config, sources=sources)
        batch = {
            name: np.stack([sources.train[i][name] for i in range(3)])
            for name in ("image", "label")
        } | {"index": np.arange(3), "case": np.arange(3)}

        @jax.jit
        def last(key, batch):
            state = system.init(key, batch)
            variables = base.evaluation_variables(state)
            inputs = LossInputs(variables, {}, batch, None, key, jnp.int32(0))
            kept = system.objectives()[-1].run(inputs).variables["vae"]
            player = state.players["vae"]
            player = player.replace(variables={**player.variables, **kept})
            return state.replace(players={"vae": player})

        return types.SimpleNamespace(state=last(jax.random.key(0), batch))

    monkeypatch.setattr(model_training, "train", untrained)
    monkeypatch.setattr(rhvae_arm, "_VOXELS", 200)
    config = load_config("unet", {"parallel.data": "1"})
    made = rhvae_arm.synthetic_subjects(config, labelled, tmp_path, 0)
    assert len(made) == 12 and made.info.case_names[4].endswith("-synthetic-0")
    assert made[0]["image"].shape == labelled[0]["image"].shape
    assert made[0]["label"].shape == (24, 20) and made[0]["label"].dtype == np.int32
    assert not np.array_equal(made[0]["image"], made[1]["image"])
    # 480 pixels are too many for 200: half of them an axis are modelled.
    assert seen["config"].data.shape == (12, 10) and seen["config"].model.subjects == 3
    assert seen["sources"].train[0]["label"].shape == (12, 10)
    assert "rhvae" in ARMS
    with pytest.raises(ValueError, match="no labelled subjects"):
        rhvae_arm.synthetic_subjects(config, subset(labelled, ()), tmp_path, 0)
    # As a generator of the experiments: a model of the subjects, which it draws from.
    monkeypatch.setattr(model_training, "train", untrained)
    generator = generator_sources.trained_on("rhvae:cpu,arm=both")(labelled, tmp_path, 0)
    image, label = (np.stack([labelled[i][k] for i in range(3)]) for k in ("image", "label"))
    drawn, kept = generator(0, image, label, ["random"] * 3)
    assert drawn.shape == image.shape and kept.shape == label.shape and np.isfinite(drawn).all()
    assert not np.array_equal(drawn, generator(1, image, label, ["random"] * 3)[0])


@pytest.mark.parametrize("size", [40, 48, 64, 96, 128])
def test_coarse_labels_stay_where_their_image_is(size):
    """A slab whose image is its label: both have the same middle, and it is the real one."""
    label = np.zeros((size, 8), np.int32)
    first, last = int(0.7 * size), int(0.9 * size)
    label[first:last] = 1
    info = DatasetInfo(("background", "slab"), ("mr",), (1.0, 1.0), ("case",))
    subject = {"image": label[..., None].astype(np.float32), "label": label}
    factor = -(-size // 22)
    (seen,) = rhvae_arm._coarse(ArraySource([subject], info), factor).records
    np.testing.assert_array_equal(seen["label"], seen["image"][..., 0] > 0.5)
    step = size / len(seen["label"])
    middle = (np.flatnonzero(seen["label"][:, 0]).mean() + 0.5) * step
    assert abs(middle - (first + last) / 2) <= step / 2


def test_coarse_images_are_averaged_and_small_ones_left_alone():
    """A pattern that the coarse grid cannot show becomes its mean."""
    rows = np.arange(32) % 4 == 0
    label = np.zeros((32, 32), np.int32) + rows[:, None]
    subject = {"image": label[..., None].astype(np.float32), "label": label}
    info = DatasetInfo(("background", "rows"), ("mr",), (1.0, 1.0), ("case",))
    source = ArraySource([subject], info)
    (seen,) = rhvae_arm._coarse(source, 4).records
    np.testing.assert_allclose(seen["image"][1:-1], 0.25, atol=1e-6)
    assert not seen["label"].any()
    (same,) = rhvae_arm._coarse(source, 1).records
    np.testing.assert_array_equal(same["image"], subject["image"])
    np.testing.assert_array_equal(same["label"], label)


def test_geodesic_clusters_tell_rings_apart():
    """Two rings, one in the other: straight distances mix them, ways along the data do not."""
    angle = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    latents = np.concatenate([0.6 * circle, 2.6 * circle]).astype(np.float32)
    factors = jnp.broadcast_to(jnp.eye(2), (60, 2, 2))
    metric = metric_of_factors(jnp.asarray(latents), factors, 0.3, 1e-3)
    truth = np.repeat([0, 1], 30)
    geodesic = clusters_of(graph_distances(metric, latents), 2)
    straight = clusters_of(np.linalg.norm(latents[:, None] - latents, axis=-1), 2)
    assert adjusted_rand_score(truth, geodesic) == 1
    assert adjusted_rand_score(truth, straight) < 0.9
