"""Runs that become non-finite: recorded, reported, left alone until they are to be tried again."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import pytest

from jaxmedgen.configuration import ConfigError, load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.experiments.ablation import run_study
from jaxmedgen.experiments.arms import Arm, ArmTraining, select_arms
from jaxmedgen.experiments.study import Study, UnpreparedError
from jaxmedgen.report.page import write_report
from jaxmedgen.report.results import load_results, save_results
from jaxmedgen.report.summary import summarise
from jaxmedgen.train.progress import Progress
from jaxmedgen.train.trainable import NonFiniteError
from tests.experiments.test_ablation import TINY, stamps


@pytest.fixture(scope="module")
def study():
    """The reference arm alone, one budget, one seed; the compilation cache is the process'."""
    before = jax.config.jax_compilation_cache_dir
    config = load_config("ablation", TINY)
    arms = select_arms(["none"])
    yield Study(config, build_sources(config.data), arms, budgets=(2,), seeds=1, dataset="shapes")
    jax.config.update("jax_compilation_cache_dir", before)


def test_a_run_that_fails_is_recorded_and_the_others_go_on(study, tmp_path):
    """One arm's model becomes non-finite, one arm's segmenter; the reference is scored."""
    tried = []

    def diverging(inputs):
        tried.append(inputs.seed)
        raise NonFiniteError("non-finite loss or gradient at step 3")

    def infinite(keys, image, label):
        return image * jnp.inf, label

    arms = {
        **study.arms,
        "model": Arm("a model that diverges", diverging),
        "segmenter": Arm(
            "images that are no numbers", lambda inputs: ArmTraining({}, augmentation=infinite)
        ),
    }
    small = dataclasses.replace(study, arms=arms)
    results = run_study(small, tmp_path, progress=Progress(quiet=True))
    assert [run.arm for run in results.runs] == ["none"]
    assert set(results.failures) == {"model, 2 labelled, seed 0", "segmenter, 2 labelled, seed 0"}
    folder = tmp_path / "runs/model/n2/seed0"
    why = results.failures["model, 2 labelled, seed 0"]
    assert json.loads((folder / "failed.json").read_text())["error"] == why
    assert why.startswith("non-finite loss or gradient at step 3; to try again, delete ")
    assert str(folder) in why
    assert "halted" in results.failures["segmenter, 2 labelled, seed 0"]
    notes = " ".join(summarise(results).notes)
    assert "Runs failed and have no scores: model, 2 labelled, seed 0; segmenter, 2" in notes
    assert "Runs are missing" not in notes
    page = write_report(results, tmp_path / "report.html").read_text()
    assert "segmenter, 2 labelled, seed 0: failed: non-finite loss" in page
    save_results(results, tmp_path / "results")
    assert load_results(tmp_path / "results").failures == results.failures

    before = stamps(tmp_path)
    assert run_study(small, tmp_path, progress=Progress(quiet=True)).failures == results.failures
    assert stamps(tmp_path) == before
    assert tried == [0]
    shutil.rmtree(folder)
    run_study(small, tmp_path, progress=Progress(quiet=True))
    assert tried == [0, 0]
    with pytest.raises(NonFiniteError, match="model, 2 labelled, seed 0: non-finite"):
        run_study(small, tmp_path, progress=Progress(quiet=True), go_on=False)


def test_an_arm_that_cannot_be_prepared_for_a_draw_is_recorded(study, tmp_path):
    """The other draws and arms go on; a setting of an arm that trains nothing ends the study."""

    def unprepared(inputs):
        if inputs.seed == 0:
            raise ValueError("3 windows have the class 'box' and 0 have not")
        return ArmTraining()

    arms = {**study.arms, "model": Arm("a model", unprepared)}
    small = dataclasses.replace(study, arms=arms, seeds=2)
    results = run_study(small, tmp_path, progress=Progress(quiet=True))
    assert {(run.arm, run.seed) for run in results.runs} == {("none", 0), ("none", 1), ("model", 1)}
    (why,) = results.failures.values()
    assert why.startswith("3 windows have the class 'box' and 0 have not; to try again, delete ")
    assert "3 windows" in write_report(results, tmp_path / "report.html").read_text()
    with pytest.raises(ValueError, match=r"^model, 2 labelled, seed 0: 3 windows"):
        run_study(small, tmp_path, progress=Progress(quiet=True), go_on=False)

    alone = dataclasses.replace(study, arms={"model": Arm("a model", unprepared)})
    for _ in range(2):  # as it happens, and as it was recorded
        with pytest.raises(UnpreparedError, match="all 1 runs of the reference arm 'model' failed"):
            run_study(alone, tmp_path / "alone", progress=Progress(quiet=True))


def test_folders_and_networks_that_do_not_fit_end_a_study(study, tmp_path):
    """They are no matter of a draw of subjects."""

    def claimed(inputs):
        raise ConfigError("the model's folder has other settings")

    def misfit(inputs):
        raise ValueError("no such network")

    for arm in (Arm("a model", claimed), Arm("a network", misfit, quick=True)):
        small = dataclasses.replace(study, arms={**study.arms, "own": arm})
        with pytest.raises(ValueError, match=r"other settings|no such network"):
            run_study(small, tmp_path, progress=Progress(quiet=True))
    assert not list(tmp_path.glob("runs/**/failed.json"))


def test_a_reference_without_any_run_ends_a_study(study, tmp_path):
    def diverging(inputs):
        raise NonFiniteError("non-finite loss or gradient at step 3")

    small = dataclasses.replace(study, arms={"own": Arm("diverges", diverging)}, seeds=2)
    with pytest.raises(NonFiniteError, match="all 2 runs of the reference arm 'own' failed"):
        run_study(small, tmp_path, progress=Progress(quiet=True))
    assert len(list(tmp_path.glob("runs/**/failed.json"))) == 2
