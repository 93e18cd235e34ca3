"""The study of arms x budgets x seeds: paired, nested, resumable, refusing what does not fit."""

import dataclasses
import json
import re
import shutil
import time

import jax
import pytest

from jaxmedgen.configuration import ConfigError, load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.sources import ArraySource
from jaxmedgen.experiments import ablation
from jaxmedgen.experiments.ablation import labelled_subjects, run_study
from jaxmedgen.experiments.arms import Arm, ArmTraining, select_arms
from jaxmedgen.experiments.study import Study, gather
from jaxmedgen.report.page import write_report
from jaxmedgen.report.results import load_results, save_results
from jaxmedgen.report.summary import summarise
from jaxmedgen.train.interrupt import Interrupted, StopSignal
from jaxmedgen.train.metrics_log import read_metrics
from jaxmedgen.train.progress import Progress

TINY = {
    "data.kind": "shapes",
    "data.shape": "(16, 16)",
    "data.train": "4",
    "data.validation": "1",
    "data.test": "3",
    "net.features": "(4, 8)",
    "steps": "6",
    "eval_every": "3",
    "checkpoint_every": "3",
    "log_every": "2",
    "optimizer.warmup": "2",
    "parallel.data": "1",
}


@pytest.fixture(autouse=True, scope="module")
def compilation_cache():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def study():
    """Two arms, one budget, two seeds."""
    config = load_config("ablation", TINY | {"measure_fit": "True"})
    arms = select_arms(["none", "light"])
    sources = build_sources(config.data)
    return Study(config, sources, arms, budgets=(2,), seeds=2, dataset="shapes", command="command")


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    """The study's folder and results after one call, the messages it printed left out."""
    workdir = tmp_path_factory.mktemp("study")
    return workdir, run_study(study, workdir, progress=Progress(quiet=True))


def stamps(workdir):
    return {
        str(p.relative_to(workdir)): p.stat().st_mtime_ns
        for p in sorted(workdir.glob("runs/**/*"))
        if p.is_file()
    }


def without_times(run):
    return dataclasses.replace(run, seconds=0.0, augmenter_seconds=0.0, wall_seconds=0.0)


def test_every_run_is_scored_on_the_same_cases(study, finished):
    workdir, results = finished
    assert len(results.runs) == 4
    assert {(r.arm, r.budget, r.seed) for r in results.runs} == set(study.runs())
    names = set(study.sources.test.info.case_names)
    for run in results.runs:
        assert 0 <= run.training_dice <= 1 and 0 <= run.ece <= 1
        assert set(run.scores) == names
        assert {"ellipse", "box"} == set(next(iter(run.scores.values())))
        assert any("validation_dice" in point for point in run.curve)
    for seed in range(2):
        labelled = {
            tuple(json.loads(path.read_text())["labelled"])
            for path in workdir.glob(f"runs/*/n2/seed{seed}/scores.json")
        }
        assert len(labelled) == 1, "arms of a seed must see the same subjects"
    assert not names & {n for path in workdir.glob("runs/**/scores.json") for n in _labelled(path)}
    assert set(results.samples) == {"none", "light"}
    assert results.reference_arm == "none"


def test_a_second_call_trains_nothing(study, finished):
    workdir, results = finished
    before = stamps(workdir)
    again = run_study(study, workdir, progress=Progress(quiet=True))
    assert stamps(workdir) == before
    assert again.runs == results.runs
    assert summarise(again).answer == summarise(results).answer


def test_the_report_is_one_file_that_asks_for_nothing(finished, tmp_path):
    _, results = finished
    path = write_report(results, tmp_path / "report.html")
    page = path.read_text()
    for text in ("none", "light", "shapes", summarise(results).notes[0][:30], "command"):
        assert text in page
    assert re.findall(r"""(?:src|href)=["'](?!data:|\#)""", page) == []
    assert not re.search(r"url\((?!['\"]?data:)", page)
    assert "default-src 'none'" in page
    save_results(results, tmp_path / "results")
    assert load_results(tmp_path / "results").runs == results.runs


def test_an_arm_of_ones_own_is_added(study, finished):
    """Finished runs stay; a learned arm sees its run's labelled subjects and changes training."""
    workdir, results = finished
    before, seen = stamps(workdir), []

    def brighten(keys, image, label):
        return image + 100.0, label

    def prepare(inputs):
        seen.append(inputs)
        changes = {"optimizer.learning_rate": 1e-4}
        return ArmTraining(changes, augmentation=brighten, seconds=1e5)  # as if trained before

    arms = {**study.arms, "own": Arm("brighter", prepare)}
    grown = dataclasses.replace(study, arms=arms, seeds=1)
    added = run_study(grown, workdir, progress=Progress(quiet=True))
    after = stamps(workdir)
    assert {name: after[name] for name in before} == before
    assert {(r.arm, r.seed) for r in added.runs} == {("none", 0), ("light", 0), ("own", 0)}
    kept = {(r.arm, r.seed): r for r in results.runs}
    assert all(run == kept[run.arm, run.seed] for run in added.runs if run.arm != "own")
    (own,) = (run for run in added.runs if run.arm == "own")
    assert own.augmenter_seconds == 1e5 and 0 < own.seconds < own.wall_seconds < 1e5
    assert added.total_seconds == pytest.approx(sum(run.wall_seconds for run in added.runs))
    (inputs,) = seen
    assert inputs.labelled.info.case_names == tuple(
        study.sources.train.info.case_names[i] for i in labelled_subjects(study.sources, 2, 0)
    )
    assert inputs.seed == 0
    assert inputs.workdir.is_relative_to(workdir)
    image, _ = added.samples["own"][0]
    assert image.mean() > 90
    written = json.loads((workdir / "runs/own/n2/seed0/config.json").read_text())
    assert written["optimizer"]["learning_rate"] == 1e-4


def test_unlabelled_subjects_are_those_of_the_training_part(study, tmp_path, monkeypatch):
    """Asked for, an arm gets the images of the other training subjects and no label of theirs."""
    seen = []

    def prepare(inputs):
        seen.append(inputs)
        raise InterruptedError  # nothing to train here

    for asked in (False, True):
        config = load_config("ablation", TINY | {"model_unlabelled": str(asked)})
        arms = {"own": Arm("", prepare)}
        one = dataclasses.replace(study, config=config, arms=arms, budgets=(3,), seeds=1)
        with pytest.raises(InterruptedError):
            run_study(one, tmp_path / str(asked), progress=Progress(quiet=True))
    without, given = seen
    assert without.unlabelled is None
    names = set(given.unlabelled.info.case_names)
    assert names == set(study.sources.train.info.case_names) - set(given.labelled.info.case_names)
    assert len(names) == 1
    held = (study.sources.validation, study.sources.test)
    assert not names & {name for part in held for name in part.info.case_names}
    assert set(given.unlabelled[0]) == {"image"}


def test_other_settings_are_refused(study, finished):
    workdir, _ = finished
    config = load_config(
        "ablation", TINY | {"measure_fit": "True", "steps": "7", "net.dropout": "0.1"}
    )
    other = dataclasses.replace(study, config=config)
    with pytest.raises(ConfigError) as caught:
        run_study(other, workdir, progress=Progress(quiet=True))
    message = str(caught.value)
    assert "steps: 6 -> 7" in message
    assert "net.dropout: 0.0 -> 0.1" in message
    assert str(workdir) in message
    assert "--workdir" in message


def test_stopped_twice_it_goes_on_to_the_same_numbers(study, finished, tmp_path, monkeypatch):
    """Stopped while the second run trains, then while it is scored."""
    finished_in, expected = finished
    shutil.copytree(finished_in / "cache", tmp_path / "cache")
    small = dataclasses.replace(study, seeds=1)
    real_train, real_evaluate, seen = ablation.train, ablation.evaluate_source, []
    hint = "run the same command again to go on"

    def train(config, sources, system, workdir, *, stop, **keywords):
        seen.append(workdir)
        if len(seen) == 2:
            time.sleep(1.5)  # longer than all that is left to do
            stop.received = "SIGTERM"
        return real_train(config, sources, system, workdir, stop=stop, **keywords)

    def evaluate(predictor, variables, source, stop, **keywords):
        stop.received = "SIGTERM"
        return real_evaluate(predictor, variables, source, stop, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(ablation, "train", train)
        with pytest.raises(Interrupted, match=hint):
            run_study(small, tmp_path, stop=StopSignal(), progress=Progress(quiet=True))
    assert len(list(tmp_path.glob("runs/**/scores.json"))) == 1
    partial = gather(small, tmp_path)
    assert len(partial.runs) == 1
    assert "Runs are missing" in " ".join(summarise(partial).notes)
    first = stamps(tmp_path / "runs" / "none")

    with monkeypatch.context() as patched:
        patched.setattr(ablation, "evaluate_source", evaluate)
        with pytest.raises(Interrupted, match=hint):
            run_study(small, tmp_path, stop=StopSignal(), progress=Progress(quiet=True))
    assert len(list(tmp_path.glob("runs/**/scores.json"))) == 1
    trained = read_metrics(tmp_path / "runs/light/n2/seed0/metrics.jsonl")

    results = run_study(small, tmp_path, progress=Progress(quiet=True))
    assert stamps(tmp_path / "runs" / "none") == first
    assert read_metrics(tmp_path / "runs/light/n2/seed0/metrics.jsonl") == trained
    (stopped,) = (r for r in results.runs if r.arm == "light")
    assert 1.5 < stopped.seconds <= stopped.wall_seconds, "what was spent before the stop is lost"
    wanted = [without_times(r) for r in expected.runs if r.seed == 0]
    assert [without_times(r) for r in results.runs] == wanted


def test_budgets_are_nested_and_seeds_differ(study):
    draws = {(b, s): labelled_subjects(study.sources, b, s) for b in (1, 2, 3) for s in range(6)}
    for seed in range(6):
        assert draws[2, seed][:1] == draws[1, seed]
        assert set(draws[2, seed]) < set(draws[3, seed])
    assert len({draws[1, seed] for seed in range(6)}) > 1
    assert draws[2, 0] == labelled_subjects(study.sources, 2, 0)


def test_budgets_are_patients(study, tmp_path):
    """Four scans of two patients: a budget of three cannot be drawn, and is refused at once."""
    train = study.sources.train
    names = ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1", "sub-02_ses-2")
    train = ArraySource(
        [train[i] for i in range(4)], dataclasses.replace(train.info, case_names=names)
    )
    sources = dataclasses.replace(study.sources, train=train)
    with pytest.raises(ValueError, match=r"label budgets \(1, 3\): 2 training patients are left"):
        dataclasses.replace(study, sources=sources, budgets=(1, 3))
    both = dataclasses.replace(study, sources=sources, budgets=(1, 2))
    assert [len(labelled_subjects(both.sources, n, 0)) for n in both.budgets] == [2, 4]
    assert (gather(both, tmp_path).unit, gather(study, tmp_path).unit) == ("patient", "case")


def test_arms_and_budgets_that_do_not_fit(study):
    with pytest.raises(ValueError, match="unknown arm 'clasic': did you mean 'classic'"):
        select_arms(["clasic"])
    with pytest.raises(ValueError, match="unknown arm 'clasic': did you mean 'classic'"):
        select_arms(["paddit+clasic"])
    with pytest.raises(ValueError, match="'genseg' cannot be joined with presets: these can: syn"):
        select_arms(["genseg+classic"])
    with pytest.raises(ValueError, match="sets rotation twice"):
        select_arms(["affine+classic"])
    assert list(select_arms(["affine+gamma", "paddit+classic"])) == [
        "affine+gamma",
        "paddit+classic",
    ]
    joined = select_arms(["spade+classic", "spade+labelvae+nnunet3d", "nnunet3d+moex_pono"])
    assert [arm.description.rsplit("; ")[-1] for arm in joined.values()] == [
        "its preset is classic",
        "its preset is nnunet3d",
        "nnU-Net's with moment exchange",
    ]
    with pytest.raises(ValueError, match="arm 'none' is named twice"):
        select_arms(["none", "light", " none"])
    with pytest.raises(ValueError, match=r"label budgets \(9,\): 4 training patients are left"):
        dataclasses.replace(study, budgets=(9,))
    with pytest.raises(ValueError, match=r"label budgets \(0, 2\)"):
        dataclasses.replace(study, budgets=(0, 2))
    with pytest.raises(ValueError, match="at least one arm"):
        dataclasses.replace(study, arms={})
    with pytest.raises(ValueError, match="at least one arm, one budget and one seed"):
        dataclasses.replace(study, seeds=0)


def _labelled(path):
    return json.loads(path.read_text())["labelled"]
