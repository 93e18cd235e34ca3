"""Distances of images beside the use of them: what the report of `agreement` says."""

import jax.numpy as jnp
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.experiments.synthetic import agreement
from jaxmedgen.experiments.synthetic.experiment_readings import texts_of
from jaxmedgen.experiments.synthetic.generator_sources import ready
from jaxmedgen.experiments.synthetic.known_generators import Degraded, OracleGenerator
from jaxmedgen.experiments.synthetic.running import setting_of
from jaxmedgen.nets.feature_extractor import Extractor
from jaxmedgen.report.page import write_report
from tests.experiments.made_up import study

DICE = {"real": 0.9, "sound": 0.9, "blurred": 0.7, "noisy": 0.95, "permuted": 0.3, "collapsed": 0.5}
SIZE = 24


def moments(image):
    axes = (1, 2, 3)
    edges = [jnp.abs(jnp.diff(image, axis=axis)).mean(axes) for axis in (1, 2)]
    return jnp.stack([*edges, (image**3).mean(axes), (image**4).mean(axes)], -1)


PLAIN = Extractor("moments", "0", moments, lambda x: (x,), probs=None, trained=True)


class Blurred:
    """The checkpoint of a training that gets sharper."""

    def __init__(self, steps):
        self.name, self.share = f"after {steps}", steps / 400

    def __call__(self, *given):
        sharp, label = OracleGenerator()(*given)
        dull, _ = Degraded(OracleGenerator(), "blurred")(*given)
        return self.share * sharp + (1 - self.share) * dull, label


def test_fid_is_shown_beside_dice_and_its_ranks_are_compared(tmp_path, monkeypatch):
    overrides = {"data.shape": "(32, 32)", "data.train": str(SIZE), "data.validation": "0"}
    overrides |= {"data.test": "12", "experiment.deformation": "none"}
    config = load_config("synthetic_data_evaluation:cpu,experiment=agreement", overrides)
    setting = setting_of(config, "oracle")
    monkeypatch.setattr(agreement, "checkpoint", lambda steps: ready(Blurred(steps)))
    monkeypatch.setattr(agreement, "extractor_for", lambda *_: PLAIN)
    dice = DICE | {f"checkpoint {n}": 0.4 + n / 1000 for n in agreement.CHECKPOINTS}

    def scores(arm, budget, seed):
        return {f"case{k}": {"heart": {"dice": dice[arm]}} for k in range(3)}

    results = study(tuple(dice), scores, ("heart",), (SIZE,))
    found, table, texts = agreement.measured(setting, results, tmp_path)
    assert set(found) == set(dice) - {"real"}
    rows = {arm: values for arm, _, values in table.rows}
    fid = {arm: values[0] for arm, values in rows.items()}
    assert fid["checkpoint 25"] > fid["checkpoint 200"] > fid["checkpoint 400"]
    assert fid["permuted"] == pytest.approx(fid["sound"])  # its images are the sound one's
    assert rows["blurred"][-1] == pytest.approx(0.7)
    assert fid["real"] < fid["blurred"] and rows["real"][-1] == pytest.approx(0.9)
    assert found["noisy"].gain_source == pytest.approx(0.05)
    assert texts[0].endswith("over five checkpoints of a training: +1.00")
    assert not texts[1].endswith("+1.00")
    assert any(text.startswith("noisy: high FID, good downstream") for text in texts_of(found))
    page = write_report(results, tmp_path / "r.html", readings=texts, groups=(table,)).read_text()
    assert "in features of moments" in page and "checkpoint 400" in page
