"""GenSeg's arm of a study, the scores of a translation, and MINE where the answer is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.findings import AddedFindings
from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.data.phantoms.cluttered_digits import ClutteredDigits
from jaxmedgen.data.phantoms.lesion_images import LesionImages
from jaxmedgen.data.sources import ArraySource, DatasetInfo, Source, in_memory
from jaxmedgen.experiments import genseg_arm
from jaxmedgen.experiments.mine_toy import estimated_information, exact_information
from jaxmedgen.experiments.reproductions import genseg_digits, genseg_digits_large
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.reproductions.translation import digits, hemispheres
from jaxmedgen.experiments.translation_scores import area_under_curve, score_digits


def test_the_rarest_class_is_the_finding():
    label = np.zeros((8, 8), np.int32)
    label[:4], label[0, :2] = 1, 3
    info = DatasetInfo(("background", "a", "absent", "c"), ("x",), (1.0, 1.0), ("s",))
    source = ArraySource([{"image": np.zeros((8, 8, 1), np.float32), "label": label}], info)
    assert genseg_arm.rarest_class(source) == 3


def test_windows_hold_the_finding_or_nothing_of_it():
    labelled = in_memory(LesionImages(4, (64, 64)))
    scale = genseg_arm.largest_value(labelled)
    size = genseg_arm.window_size((64, 64))
    assert size == (32, 32)
    found, least = genseg_arm.windows(labelled, size, 1, scale)
    assert len(found.present) == len(found.names) > 20 and len(found.absent) > 5
    assert all(r["label"].mean() > 0.005 for r in found.present)
    assert all(image.std() > least for image in found.absent)
    whole = np.ones((64, 64), np.int32)
    records = [{**labelled[i], "label": whole} for i in range(4)]
    with pytest.raises(ValueError, match="needs both"):
        genseg_arm.windows(dataclasses.replace(labelled, records=records), size, 1, scale)
    with pytest.raises(ValueError, match="16 voxels"):
        genseg_arm.window_size((64, 12))


def test_findings_are_added_with_their_labels_where_there_are_none():
    """A residual of one bright voxel in the window's middle; nothing in air, nothing twice."""
    spot = np.zeros((8, 8), np.float32)
    spot[4, 4] = 2.0
    transform = AddedFindings(
        lambda keys, x: jnp.broadcast_to(spot[..., None], x.shape),
        lambda x: (x[..., 0] > 1.5).astype(jnp.float32),
        (8, 8),
        finding=2,
        scale=10.0,
        least_deviation=0.01,
        policy=Augmentation(),
    )
    rng = np.random.default_rng(0)
    image = rng.normal(0, 1, (64, 24, 24, 1)).astype(np.float32)
    image[32:48] = 0.0  # air
    label = np.ones((64, 24, 24), np.int32)
    label[48:] = 2  # the finding is everywhere
    keys = jax.random.split(jax.random.key(0), 64)
    made, classes = map(np.asarray, jax.jit(transform)(keys, image, label))
    changed = made != image
    assert not changed[32:].any()
    np.testing.assert_array_equal(classes[32:], label[32:])
    count = changed[:32].reshape(32, -1).sum(1)
    assert 8 <= (count == 1).sum() <= 24 and set(count) <= {0, 1}
    np.testing.assert_array_equal(classes[:32] == 2, changed[:32, ..., 0])
    np.testing.assert_allclose((made - image)[changed], 20.0, rtol=1e-4)
    with pytest.raises(ValueError, match="smaller than the window"):
        transform(keys[:1], jnp.zeros((1, 6, 24, 1)), jnp.zeros((1, 6, 24), jnp.int32))


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Knows the images without their digits (by their number) and the masks."""

    digits: Source
    domain_names: tuple[str, ...] = ("absence", "presence")

    def predict(self, variables, image):
        found = (image[..., :1] > 0.5).astype(jnp.float32)
        return jnp.concatenate([1 - found, found], -1)

    def translate(self, variables, keys, image, target):
        if not hasattr(self.digits, "without"):
            return image
        truth = np.stack([self.digits.without(i) for i in range(len(self.digits))])
        return jnp.asarray(truth)


def test_scores_of_a_model_that_knows_the_answer():
    digits = ClutteredDigits(12, (32, 32), "test", clutter=0, glyph=18)
    found = score_digits(Oracle(digits), {}, digits)
    assert found.global_dice == pytest.approx(1, abs=1e-3)
    assert found.case_dice == pytest.approx(1)
    assert found.removal_error == 0 and found.removal_auc > 0.98
    score, positive = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    assert area_under_curve(score, positive) == 0.75


def test_mine_finds_the_information_of_gaussians():
    """20 dimensions, rho = 0.5: 2.88 nats; a short training comes close from below."""
    assert exact_information(20, 0.5) == pytest.approx(2.877, abs=1e-3)
    found = estimated_information(steps=700, batch=256, features=(96, 96), evaluated=8000)
    assert 2.0 < found < 3.0


def test_a_part_on_hemispheres_of_phantoms(tmp_path):
    """A few steps of one arm: its row has the form of the others, finished ones are read."""
    overrides = {
        "data.train": "3",
        "data.validation": "1",
        "data.test": "1",
        "data.labelled": "1.0",
        "data.contrasts": "('flair',)",
        "data.volume": "(32, 32, 16)",
        "data.shape": "(32, 16)",
        "net.features": "(4, 8)",
        "steps": "2",
        "eval_every": "0",
        "parallel.data": "1",
    }
    options = Options(tmp_path, overrides=overrides)
    first = hemispheres.scores(options, "segmentation", 0)
    assert set(first) == {"global_dice", "case_dice", "removal_error", "removal_auc", "seconds"}
    assert 0 <= first["global_dice"] <= 1 and np.isnan(first["removal_auc"])
    assert hemispheres.scores(options, "segmentation", 0) == pytest.approx(first, nan_ok=True)
    sources = hemispheres.data_of(hemispheres.configured(options, "segmentation", 0))
    image = hemispheres.grid(Oracle(sources.test), {}, sources)
    count = min(8, len(sources.test))
    assert image.shape == (9 * 66 - 2, count * 34 - 2, 3)


def test_the_largest_task_is_a_reproduction_of_its_own(tmp_path, monkeypatch):
    """Every task trains the talk's arms; the order of their scores is the claim."""
    asked = []

    def scored(options, size, task, arm, seed):
        asked.append(task)
        dice = {"segmentation": 0.2, "autoencoder": 0.6, "proposed": 0.5}[arm]
        return dict.fromkeys(("case_dice", "removal_error", "removal_auc"), np.nan) | {
            "global_dice": dice,
            "seconds": 60.0,
        }

    monkeypatch.setattr(digits, "scores", scored)
    monkeypatch.setattr(digits, "picture", lambda *_: np.zeros((2, 2, 3), np.uint8))
    found = genseg_digits.reproduce(Options(tmp_path))
    assert set(asked) == {"simple", "hard"}
    assert list(next(iter(found.published.values()))) == ["48x48 simple", "48x48 hard"]
    asked.clear()
    found = genseg_digits_large.reproduce(Options(tmp_path, data="mnist"))
    assert asked == ["large"] * 3 and list(found.pictures) == ["large"]
    assert [claim.holds for claim in found.claims] == [False, True]
    assert "| autoencoder | 0.600 |  |" in found.table and "real digits" in found.table


def test_the_published_task_of_128_has_its_data(tmp_path, monkeypatch):
    """As the sheet gives them; digits as many as there are, fewer on a processor."""
    for available, train, test in ((70_000, 59_500, 10_000), (10_000, 8000, 1000)):
        found = (None, np.zeros(available))
        monkeypatch.setattr(digits, "read_digits", lambda _, found=found: found)
        asked = Options(tmp_path, data="mnist")
        data = digits.configured(asked, "gpu", "large", "autoencoder", 0).data
        assert (data.train, data.validation, data.test) == (train, 500, test)
    small = digits.configured(asked, "cpu", "large", "autoencoder", 0)
    assert (small.data.train, small.data.test, small.steps) == (4000, 1000, 1200)
    assert small.baseline.segmentation == 1.0
    asked = Options(tmp_path, data="mnist")
    config = digits.configured(asked, "gpu", "large", "autoencoder", 0)
    assert config.data.shape == (128, 128) and config.data.folder == "mnist"
    assert config.baseline.segmentation == 0.01
    assert (config.data.clutter, config.data.piece) == (80, 10)
    assert (config.data.labelled, config.data.labelled_kind) == (0.01, 9)
    assert config.net.features == (16, 32, 64, 128, 256, 512)
    assert config.net.discriminator == (128, 256, 512) and config.steps == 40_000
    overrides = {
        "data.train": "24",
        "data.validation": "4",
        "data.test": "4",
        "data.labelled": "1.0",
        "data.labelled_kind": "-1",
        "data.glyph": "12",
        "data.piece": "4",
        "data.clutter": "3",
        "data.shape": "(16, 16)",
        "net.features": "(4, 8)",
        "batch_size": "4",
        "steps": "2",
        "parallel.data": "1",
    }
    options = Options(tmp_path, parts=("large",), overrides=overrides)
    first = digits.scores(options, "cpu", "large", "autoencoder", 0)
    assert 0 < first["global_dice"] < 1 and np.isnan(first["removal_auc"])
    assert digits.scores(options, "cpu", "large", "autoencoder", 0) == pytest.approx(
        first, nan_ok=True
    )
    assert (tmp_path / "large" / "autoencoder" / "seed0" / "scores.json").is_file()
