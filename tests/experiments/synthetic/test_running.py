"""The experiments from the command line to their reports, at the smallest size."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.cli.main import main
from jaxmedgen.configuration import load_config
from jaxmedgen.data.phantoms.late_enhancement import LateEnhancement
from jaxmedgen.data.sources import in_memory
from jaxmedgen.experiments.synthetic.crops import crop, crop_box, uncrop
from jaxmedgen.experiments.synthetic.running import generator_for, setting_of
from jaxmedgen.experiments.synthetic.scar import dice_by_subject, run_scar
from jaxmedgen.experiments.synthetic.scar_report import write_scar_report
from jaxmedgen.report.results import load_results
from jaxmedgen.systems.detection.box_regressor import box_of
from jaxmedgen.train.progress import Progress

TINY = [
    "--config.data.shape=(32, 32)",
    "--config.data.train=4",
    "--config.data.validation=0",
    "--config.data.test=1",
    "--config.net.features=(2, 4)",
    "--config.steps=3",
    "--config.batch_size=4",
    "--config.optimizer.warmup=1",
    "--config.parallel.data=1",
    "--config.experiment.preset=none",
    "--config.experiment.deformation=none",
    "--seeds=1",
    "--quiet",
]


@pytest.fixture(autouse=True)
def compilation_cache():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_reduction_from_the_command_line(tmp_path, capsys):
    work = tmp_path / "work"
    command = ["ablate", "--experiment", "reduction", "--workdir", str(work), *TINY]
    command += ["--config.experiment.fractions=(1.0, 0.5)"]
    assert main(command) == 0, capsys.readouterr().err
    results = load_results(work / "results")
    assert results.reference_arm == "real" and results.budgets == (2, 4)
    shown = {(run.arm, run.budget) for run in results.runs}
    assert ("synthetic only", 4) in shown and ("real+synthetic", 2) in shown
    assert ("real+synthetic", 4) not in shown
    assert {c.split("-")[0] for c in results.cases} == {"A", "B"}
    assert "Dice" in (work / "report.html").read_text()
    made = sorted(work.glob("part*/runs/*/n2/seed0/augmenter/synthetic.json"))
    counts = {json.loads(p.read_text())["count"] for p in made}
    assert counts == {2, 6}  # filled up to 4 and to 8
    steps = {
        json.loads(line)["step"]
        for path in work.glob("part*/runs/*/*/seed0/metrics.jsonl")
        for line in path.read_text().splitlines()[-1:]
    }
    assert steps == {3}  # the same number of steps in every arm
    capsys.readouterr()
    assert main([*command[:2], "reducton", *command[3:]]) == 2
    assert "did you mean 'reduction'" in capsys.readouterr().err


def test_the_scar_cascade_is_gone_on_with(tmp_path):
    """A run that is finished is read, not trained again; the report has all arms."""
    overrides = dict(t.removeprefix("--config.").split("=", 1) for t in TINY if "config" in t)
    overrides |= {"data.slices": "2", "data.test": "2"}
    overrides |= {"experiment.labelled": "2", "experiment.ratios": "(1,)"}
    config = load_config("synthetic_data_evaluation:cpu,experiment=scar", overrides)
    setting = setting_of(config, "oracle")
    arms, quiet = ("direct", "cascade+synthetic"), Progress(quiet=True)
    first = run_scar(setting, tmp_path, seeds=1, arms=arms[1:], progress=quiet)
    done = tmp_path / "runs/cascade+synthetic/seed0/done.json"
    before = done.stat().st_mtime_ns
    results = run_scar(setting, tmp_path, seeds=1, arms=arms, progress=quiet)
    assert done.stat().st_mtime_ns == before
    labels = results["cascade+synthetic"][0]["predictions"]
    assert np.array_equal(labels, first["cascade+synthetic"][0]["predictions"])
    assert labels.shape == (4, 32, 32) and set(np.unique(labels)) <= {0, 2, 3}
    write_scar_report(setting, results, tmp_path)
    stored = json.loads((tmp_path / "scar.json").read_text())
    assert set(stored) == set(arms) and 0 <= stored["direct"]["dice_subject"] <= 1
    assert "scar_dice_over_direct" in stored["cascade+synthetic"]
    assert (tmp_path / "scar.png").exists()
    with pytest.raises(ValueError, match="holds runs with other settings"):
        other = load_config(
            "synthetic_data_evaluation:cpu,experiment=scar", overrides | {"steps": "4"}
        )
        run_scar(setting_of(other, "oracle"), tmp_path, seeds=1, arms=arms, progress=quiet)


def test_crops_go_back_where_they_came_from():
    label = np.zeros((64, 64), np.int32)
    label[20:41, 26:44] = 3
    (box,), there = box_of(jnp.asarray(label)[None], (3,))
    assert np.allclose(box, [30.5 / 64, 35 / 64, 21 / 64, 18 / 64]) and bool(there[0])
    square = crop_box(np.asarray(box), (64, 64))
    assert square[1][0] == pytest.approx(1.25 * 21)
    inside = crop(label, *square, order=0)
    assert inside[0, 0] == 0 and inside[24, 24] == 3
    back = uncrop(inside, *square, (64, 64))
    both = ((back == 3) & (label == 3)).sum()
    assert 2 * both / ((back == 3).sum() + (label == 3).sum()) > 0.97


def test_dice_by_subject_joins_slices():
    test = in_memory(LateEnhancement(3, (32, 32), slices=2))
    labels = np.stack([r["label"] for r in test.records])
    perfect = dice_by_subject(labels, test, (2,))
    assert perfect == {f"sub-0000{i}": 1.0 for i in range(3)}
    assert dice_by_subject(np.zeros_like(labels), test, (2,))["sub-00000"] == 0


def test_the_oracle_is_for_phantoms_only():
    config = load_config("synthetic_data_evaluation")
    with config.unlocked():
        config.data.kind = "folder"
    with pytest.raises(ValueError, match="renders the heart phantoms"):
        generator_for("oracle", config)
