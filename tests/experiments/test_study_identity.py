"""A study's folder is of one data set: other subjects, classes or content are refused."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from jaxmedgen.configuration import ConfigError, load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.sources import ArraySource
from jaxmedgen.experiments import ablation
from jaxmedgen.experiments.ablation import run_study
from jaxmedgen.experiments.arms import select_arms
from jaxmedgen.experiments.evaluation import Predictor
from jaxmedgen.experiments.runs import train_run
from jaxmedgen.experiments.study import Study
from jaxmedgen.experiments.study_identity import claim_content, claim_study
from jaxmedgen.report.page import write_report
from jaxmedgen.train.progress import Progress
from tests.data.making_folders import make_nnunet
from tests.experiments.test_ablation import TINY

SMALL = TINY | {"steps": "3", "eval_every": "0"}
QUIET = Progress(quiet=True)


@pytest.fixture(scope="module", autouse=True)
def compilation_cache():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def study():
    config = load_config("ablation", SMALL)
    arms = select_arms(["none"])
    return Study(config, build_sources(config.data), arms, budgets=(2,), seeds=1, dataset="shapes")


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study")
    run_study(study, workdir, progress=QUIET)
    return workdir


def changed(study, part, **changes):
    """The study with another part; `records` and fields of its info."""
    before = getattr(study.sources, part)
    records = changes.pop("records", [before[i] for i in range(len(before))])
    source = ArraySource(records, dataclasses.replace(before.info, **changes))
    return dataclasses.replace(study, sources=dataclasses.replace(study.sources, **{part: source}))


def corrected(source, number, key):
    """The records of a source, one of which has another voxel of its label, or image."""
    records = [dict(source[i]) for i in range(len(source))]
    array = np.array(records[number][key])
    if key == "label":
        array[0, 0] = 1 - array[0, 0]
    else:
        array = array[::-1].copy()
    records[number][key] = array
    return records


def test_a_scan_that_changed_sides_is_refused(study, finished):
    """One test subject fewer, and a former training subject takes its place."""
    train, test = study.sources.train.info.case_names, study.sources.test.info.case_names
    names = (train[3], *test[1:])
    with pytest.raises(ConfigError) as caught:
        run_study(changed(study, "test", case_names=names), finished, progress=QUIET)
    assert f"{finished} holds a study of other data (test subject {test[0]} is gone)" in str(
        caught.value
    )
    assert "use another --workdir" in str(caught.value) and "\n" not in str(caught.value)
    more = changed(
        study,
        "train",
        records=[study.sources.train[i] for i in (0, 1, 2, 3, 0)],
        case_names=(*train, "late"),
    )
    with pytest.raises(ConfigError, match="training subject late is new"):
        run_study(more, finished, progress=QUIET)
    info = dataclasses.replace(study.sources.info, class_names=("background", "box", "ellipse"))
    other = dataclasses.replace(study, sources=dataclasses.replace(study.sources, info=info))
    with pytest.raises(ConfigError, match=r"classes: \['background', 'ellipse', 'box'\] ->"):
        run_study(other, finished, progress=QUIET)


@pytest.mark.parametrize(("key", "what"), [("label", "label map"), ("image", "image")])
def test_another_content_is_refused(study, finished, key, what):
    name = study.sources.test.info.case_names[1]
    other = changed(study, "test", records=corrected(study.sources.test, 1, key))
    with pytest.raises(ConfigError, match=f"test subject {name} has another {what}"):
        run_study(other, finished, progress=QUIET)


def test_a_corrected_training_label_is_refused_where_it_is_read(study, finished, tmp_path):
    """Finished runs read none; a new run that draws the subject does."""
    workdir = tmp_path / "study"
    shutil.copytree(finished, workdir)
    content = json.loads((workdir / "study.json").read_text())["content"]["train"]
    (first, *_) = content
    number = study.sources.train.info.case_names.index(first)
    other = changed(study, "train", records=corrected(study.sources.train, number, "label"))
    run_study(other, workdir, progress=QUIET)
    more = dataclasses.replace(other, arms=select_arms(["none", "light"]))
    with pytest.raises(ConfigError, match=f"training subject {first} has another label map"):
        run_study(more, workdir, progress=QUIET)


def test_the_last_digits_of_an_image_are_no_difference(study, finished):
    """Another processor rounds means otherwise."""
    test = study.sources.test
    noise = np.random.default_rng(0)
    records = [
        {**test[i], "image": test[i]["image"] * (1 + noise.normal(0, 1e-6, test[i]["image"].shape))}
        for i in range(len(test))
    ]
    run_study(changed(study, "test", records=records), finished, progress=QUIET)


def test_a_study_of_an_older_version_goes_on(study, finished, tmp_path):
    """It kept the names of its test subjects, which still count; the rest is filled in."""
    stored = json.loads((finished / "study.json").read_text())
    whole = {name: stored.pop(name) for name in ("data", "content")}
    (tmp_path / "study.json").write_text(json.dumps(stored))
    names = ("other", *study.sources.test.info.case_names[1:])
    with pytest.raises(ConfigError, match="test subject"):
        claim_study(changed(study, "test", case_names=names), tmp_path)
    claim_study(study, tmp_path)
    claim_content(tmp_path, "test", study.sources.test)
    found = json.loads((tmp_path / "study.json").read_text())
    assert found["data"] == whole["data"]
    assert found["content"]["test"] == whole["content"]["test"]


def test_studies_are_not_mixed_with_others_scored_otherwise(study, finished, tmp_path):
    """A study of before there was a choice has scored classes and left out what nobody has."""
    right = dataclasses.replace(study, absent="right")
    with pytest.raises(ConfigError, match=r"scored with --regions '' --absent 'excluded', not"):
        run_study(right, finished, progress=QUIET)
    stored = json.loads((finished / "study.json").read_text())
    del stored["scoring"]
    (tmp_path / "study.json").write_text(json.dumps(stored))
    with pytest.raises(ConfigError, match=r"not --regions '' --absent 'right': use another"):
        claim_study(right, tmp_path)
    claim_study(study, tmp_path)


def test_regions_and_absent_structures_are_scored_as_asked(study, tmp_path, monkeypatch):
    """A network that marks nothing is right about the one subject that has nothing."""
    test = study.sources.test
    records = [dict(test[i]) for i in range(len(test))]
    records[0]["label"] = np.zeros_like(records[0]["label"])
    asked = dataclasses.replace(
        changed(study, "test", records=records), regions="any=ellipse+box", absent="right"
    )

    class Blind(Predictor):
        def __init__(self):
            """Nothing is compiled."""

        def __call__(self, variables, image, stop=None):
            return np.zeros(image.shape[:-1], np.int32)

        def probabilities(self, variables, image, stop=None):
            return np.eye(3, dtype=np.float32)[self(variables, image)]

    monkeypatch.setattr(ablation, "predictor", lambda system, config: Blind())
    results = run_study(asked, tmp_path, progress=QUIET)
    (run,) = results.runs
    scores = [run.scores[name] for name in test.info.case_names]
    assert [set(s) for s in scores] == [{"any"}] * 3
    assert [s["any"]["dice"] for s in scores] == [1, 0, 0]
    page = write_report(results, tmp_path / "report.html").read_text()
    assert "that is a right answer" in page and ">any</th>" in page
    with pytest.raises(ValueError, match="class 'liver' of region any is none of 1 ellipse, 2 box"):
        dataclasses.replace(study, regions="any=liver")


def test_a_training_refuses_other_patients(tmp_path):
    """A scan was deleted, and another patient moves into its place."""
    folder, workdir = make_nnunet(tmp_path / "data", tuple("abcd")), tmp_path / "run"
    settings = {
        "data.kind": "folder",
        "data.folder": str(folder),
        "data.train": "0",
        "data.validation": "0",
        "data.test": "1",
        "data.shape": "(8, 8, 8)",
        "net.features": "(2, 4)",
        "steps": "1",
        "eval_every": "0",
        "batch_size": "1",
        "optimizer.warmup": "0",
        "parallel.data": "1",
    }
    config = load_config("unet", settings)
    train_run(config, workdir, progress=QUIET)
    description = (workdir / "dataset.json").read_text()
    train_run(config, workdir, progress=QUIET)
    held = build_sources(config.data).test.info.case_names[0]
    for path in folder.glob(f"*/{held}*"):
        path.unlink()
    with pytest.raises(
        ConfigError, match=r"holds a run of other data \(training patient . is gone"
    ):
        train_run(config, workdir, progress=QUIET)
    assert (workdir / "dataset.json").read_text() == description
    older = json.loads(description)
    del older["patients"]
    older["class_names"][1] = "spleen"
    (workdir / "dataset.json").write_text(json.dumps(older))
    with pytest.raises(ConfigError, match=r"classes: .*'spleen'"):
        train_run(config, workdir, progress=QUIET)
