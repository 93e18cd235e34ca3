"""The experiments from the command line to their reports, at the smallest size."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.cli.main import main
from jaxmedgen.configuration import ConfigError, load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.phantoms.late_enhancement import LateEnhancement
from jaxmedgen.data.sources import ArraySource, in_memory, subset
from jaxmedgen.experiments.arms import ArmInputs
from jaxmedgen.experiments.synthetic import running, scar
from jaxmedgen.experiments.synthetic.crops import crop, crop_box, uncrop
from jaxmedgen.experiments.synthetic.generator_sources import ready
from jaxmedgen.experiments.synthetic.known_generators import (
    OracleGenerator,
    render_late_enhancement,
)
from jaxmedgen.experiments.synthetic.running import generator_for, setting_of
from jaxmedgen.experiments.synthetic.scar_report import arm_scores, write_scar_report
from jaxmedgen.experiments.synthetic.usability import reduction
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


SMALL = {
    "data.shape": "(32, 32)",
    "data.train": "8",
    "data.validation": "0",
    "data.test": "1",
    "experiment.fractions": "(1.0, 0.25)",
    "experiment.deformation": "none",
}


@pytest.fixture(autouse=True)
def compilation_cache():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_reduction_from_the_command_line(tmp_path, capsys):
    work = tmp_path / "work"
    command = ["ablate", "--experiment", "reduction", "--workdir", str(work), *TINY]
    command += ["--config.experiment.fractions=(1.0,)"]
    assert main(command) == 0, capsys.readouterr().err
    results = load_results(work / "results")
    assert results.reference_arm == "real" and results.budgets == (4,)
    arms = {"real", "real+synthetic, to 200 %", "synthetic only"}
    assert {run.arm for run in results.runs} == arms
    page = (work / "report.html").read_text()
    assert "What fewer real subjects keep" in page
    assert {c.split("-")[0] for c in results.cases} == {"A", "B"}
    assert "Dice" in (work / "report.html").read_text()
    last = [p.read_text().splitlines()[-1] for p in work.glob("part*/runs/*/*/*/metrics.jsonl")]
    assert len(last) == 3
    assert {json.loads(line)["step"] for line in last} == {3}  # the same number of steps
    capsys.readouterr()
    assert main([*command[:2], "reducton", *command[3:]]) == 2
    assert "did you mean 'reduction'" in capsys.readouterr().err


def test_reduction_fills_up_to_what_it_says(tmp_path):
    config = load_config("synthetic_data_evaluation:cpu,experiment=reduction", SMALL)
    setting = setting_of(config, "oracle")
    every, fewer, more, none = reduction(setting)
    assert [p.budgets for p in (every, fewer, more, none)] == [(2, 8), (2,), (2, 8), (8,)]
    labelled = in_memory(subset(setting.pool, (5, 2)))
    own, pool = set(labelled.info.case_names), set(setting.pool.info.case_names)
    counts, subjects = {}, {}
    for name, arm in {**fewer.arms, **more.arms}.items():
        work = tmp_path / name
        shared = tmp_path / "models" / "n2" / "seed0"
        shown = arm.prepare(ArmInputs(config, labelled, work, 0, shared)).source
        manifest = json.loads((work / "synthetic.json").read_text())
        counts[name] = (len(shown), manifest["count"])
        subjects[name] = {e["subject"] for e in manifest["images"]}
    assert counts == {
        "real+synthetic": (8, 6),
        "real+synthetic, to 200 %": (16, 14),
        "real+synthetic, full generator": (8, 6),
        "real+synthetic, full generator, to 200 %": (16, 14),
    }
    # Honest arms render nobody whom the segmenter does not have.
    assert subjects["real+synthetic"] == subjects["real+synthetic, to 200 %"] == own
    assert subjects["real+synthetic, full generator"] <= pool
    assert "(honest)" in fewer.arms["real+synthetic"].description
    ready = reduction(dataclasses.replace(setting, ready=True))[1]  # a run of bin/train
    assert "(honest)" not in ready.arms["real+synthetic"].description


def test_a_generator_that_has_seen_held_out_patients_is_refused(tmp_path, monkeypatch):
    """By their names; `check_names` is for other patients of the same names."""
    config = load_config("synthetic_data_evaluation:cpu,experiment=reduction", SMALL)
    name = build_sources(config.data).test.info.case_names[0]
    seen = types.SimpleNamespace(patients=(name,))
    monkeypatch.setattr(running, "open_run", lambda _: seen)
    monkeypatch.setattr(running, "trained_run", lambda *_: ready(OracleGenerator()))
    with pytest.raises(ValueError, match=f"was trained on held-out patients .{name}"):
        setting_of(config, str(tmp_path))
    config.experiment.check_names = False
    assert setting_of(config, str(tmp_path)).ready
    config.experiment.check_names, seen.patients = True, ("somebody",)
    assert setting_of(config, str(tmp_path)).ready
    assert not setting_of(config, "oracle").ready


@pytest.mark.parametrize(
    ("generator", "said"),
    [
        ("unet:cpu", "unet:cpu neither samples nor deforms.*such as"),
        ("cardiac_sinthesis:cpu", "cardiac_sinthesis"),
        ("rhvae:cpu", "rhvae:cpu models images or label maps alone"),
    ],
)
def test_a_generator_that_makes_nothing_is_refused_before_anything_trains(generator, said):
    config = load_config("synthetic_data_evaluation:cpu,experiment=reduction", SMALL)
    with pytest.raises((ValueError, ConfigError), match=said) as refused:
        setting_of(config, generator)
    assert "\n" not in str(refused.value)
    assert not setting_of(config, "cardiac_synthesis:cpu").ready


class PerfectStages:
    """Stages that know the truth of every image that they were trained on."""

    def __init__(self, config, folder, cache, seed, progress, name):
        self.config, self.folder, self.seed, self.trained = config, folder, seed, {}

    def box_finder(self, shown, inside):
        boxes = box_of(jnp.asarray(np.stack([r["label"] for r in shown.records])), inside)[0]
        return lambda images: self._answers(shown, images, np.asarray(boxes))

    def segmenter(self, name, shown, info, steps):
        self.trained[name] = (info.class_names, info.channel_names, steps)
        merged = len(shown.info.class_names) != info.num_classes
        table = np.asarray(self.config.data.target_of if merged else (0, 1))
        labels = np.stack([table[r["label"]] for r in shown.records])
        return lambda images: self._answers(shown, images, labels)

    def _answers(self, shown, images, truth):
        known = np.stack([r["image"][..., 0] for r in shown.records])
        distance = ((images[:, None, ..., 0] - known) ** 2).sum((2, 3))
        assert distance.min(1).max() < 1e-3
        return truth[distance.argmin(1)]


def test_a_cascade_of_perfect_stages_is_perfect(tmp_path, monkeypatch):
    """What is left is the sampling of crops; finished runs are read, not trained again."""
    overrides = {"data.train": "4", "data.validation": "0", "experiment.labelled": "4"}
    overrides |= {"data.test": "1", "data.slices": "2", "experiment.ratios": "(1,)"}
    config = load_config("synthetic_data_evaluation:cpu,experiment=scar", overrides)
    setting = setting_of(config, "oracle")
    sources = dataclasses.replace(setting.sources.test, source=setting.sources.train)
    setting = dataclasses.replace(
        setting, sources=dataclasses.replace(setting.sources, test=sources)
    )

    class Warned(OracleGenerator):
        warnings = ("the discriminator won",)

    setting = dataclasses.replace(setting, generator=ready(Warned(render_late_enhancement)))
    stages = []

    def stage(*arguments):
        stages.append(PerfectStages(*arguments))
        return stages[-1]

    monkeypatch.setattr(scar, "_Stage", stage)
    arms, quiet = ("direct", "cascade", "cascade+synthetic"), Progress(quiet=True)
    results = scar.run_scar(setting, tmp_path, seeds=1, arms=arms, progress=quiet)
    assert stages[0].trained["direct"][2] == 2 * config.steps
    assert stages[1].trained["scar"] == (
        ("background", "scar"), ("late_enhancement", "myocardium"), config.steps,
    )  # fmt: skip
    made = json.loads((tmp_path / "runs/cascade+synthetic/seed0/synthetic.json").read_text())
    assert made["count"] == 8 and made["deformation"] == "rot+elastic"
    test = setting.sources.test
    for arm in arms:
        least = 1 if arm == "direct" else 0.85
        for values in ((2, 3), (3,)):
            found = scar.dice_by_subject(results[arm][0]["predictions"].astype(int), test, values)
            assert min(found.values()) >= least, (arm, values)
    before = len(stages)
    again = scar.run_scar(setting, tmp_path, seeds=1, arms=arms, progress=quiet)
    assert np.array_equal(again["cascade"][0]["predictions"], results["cascade"][0]["predictions"])
    assert len(stages) == before
    write_scar_report(setting, results, tmp_path)
    stored = json.loads((tmp_path / "scar.json").read_text())
    said = [f"seed 0: {text}" for text in Warned.warnings]
    assert [stored[arm]["warnings"] for arm in arms] == [[], [], said]
    assert "of cascade+synthetic, seed 0: the disc" in (tmp_path / "scar.md").read_text()
    assert set(stored) == set(arms) and stored["direct"]["share_icc"] == pytest.approx(1)
    assert stored["cascade"]["scar_dice_over_direct"]["mean"] <= 0
    assert (tmp_path / "scar.png").exists()
    changed = dataclasses.replace(setting, config=config.copy_and_resolve_references())
    changed.config.unlock().steps = 4
    with pytest.raises(ValueError, match="holds runs with other settings"):
        scar.run_scar(changed, tmp_path, seeds=1, arms=arms, progress=quiet)


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
    perfect = scar.dice_by_subject(labels, test, (2,))
    assert perfect == {f"sub-0000{i}": 1.0 for i in range(3)}
    assert scar.dice_by_subject(np.zeros_like(labels), test, (2,))["sub-00000"] == 0


def test_agreement_of_scar_counts_subjects_once():
    """Two networks whose errors cancel: a subject's mean over seeds is right, in every subject."""
    test = in_memory(LateEnhancement(4, (32, 32), slices=2))
    names = tuple(f"sub-{k // 2}_z{k % 2}" for k in range(8))
    labels = np.zeros((8, 32, 32), np.int32)
    labels[:, 4:12, :20] = 2
    scars = (0, 4, 20, 40)
    for k in range(8):
        labels[k, 4, : scars[k // 2] // 2] = 3
    records = [dict(r, label=label) for r, label in zip(test.records, labels)]
    test = ArraySource(records, dataclasses.replace(test.info, case_names=names))
    more, less = labels.copy(), labels.copy()
    for k in (2, 4, 6):  # one slice of all subjects with scar
        more[k, 5, : k // 2] = 3
        less[k, 4, : k // 2] = 2
    results = [{"predictions": p} for p in (more, less)]
    found = arm_scores(results, test)
    voxel = np.prod(test.info.spacing)
    for agreement in (found.volume, found.share):
        assert agreement.count == 4
        assert (agreement.bias, agreement.low, agreement.high) == pytest.approx((0, 0, 0))
    assert found.volume_icc == found.share_icc == pytest.approx(1)
    assert (found.sensitivity, found.specificity) == (1, 1)
    alone = arm_scores(results[:1], test)
    errors = np.array([0, 1, 2, 3]) * voxel
    assert alone.volume.bias == pytest.approx(errors.mean())
    assert alone.volume.high == pytest.approx(errors.mean() + 1.96 * errors.std(ddof=1))
    assert alone.share.bias == pytest.approx(100 * errors.mean() / voxel / 320)
    by_subject = [1, *(2 * s / (2 * s + e) for s, e in zip(scars[1:], (1, 2, 3)))]
    assert alone.dice_subject == pytest.approx(np.mean(by_subject))
    other = arm_scores(results[1:], test)
    assert found.dice_slice == pytest.approx((alone.dice_slice + other.dice_slice) / 2)


def test_the_oracle_is_for_phantoms_only():
    config = load_config("synthetic_data_evaluation")
    with config.unlocked():
        config.data.kind = "folder"
    with pytest.raises(ValueError, match="renders the heart phantoms"):
        generator_for("oracle", config)
