"""The experiments on a folder: what is asked of it, who trains, what its numbers read."""

import dataclasses

import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import Sources
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.sources import in_memory, subset
from jaxmedgen.experiments.synthetic import label_models, usability
from jaxmedgen.experiments.synthetic.experiment_readings import (
    equivalences,
    findings_of,
    group_tables,
    retention_table,
    texts_of,
)
from jaxmedgen.experiments.synthetic.folder_settings import by_vendor, configure
from jaxmedgen.experiments.synthetic.generator_sources import ready
from jaxmedgen.experiments.synthetic.known_generators import OracleGenerator
from jaxmedgen.experiments.synthetic.running import folder_setting
from jaxmedgen.experiments.synthetic.setting import Setting
from jaxmedgen.report.page import write_report
from tests.report.conftest import make_results

VENDOR, DISEASE = "^([^-]+)-", "^[^-]+-([^-]+)-"


def folder_config(name, **overrides):
    """A configuration as the command line makes it for a folder, and its overrides."""
    overrides = {k.replace("__", "."): v for k, v in overrides.items()} | {"data.kind": "folder"}
    return load_config(f"synthetic_data_evaluation:cpu,experiment={name}", overrides), overrides


def test_what_a_folder_must_tell_is_named_in_one_line():
    for name, what in (("domain_shift", "vendor"), ("pathology", "disease")):
        config, overrides = folder_config(name)
        with pytest.raises(ValueError, match=f"must know the {what} of every case") as caught:
            configure(name, config, overrides)
        assert "\n" not in str(caught.value)
    config, overrides = folder_config("outliers", experiment__disease_pattern=DISEASE)
    configure("outliers", config, overrides)
    assert config.experiment.disease_pattern == DISEASE and config.experiment.vendor_pattern == ""
    assert config.data.target_of == ()


def test_one_vendor_trains_and_the_others_give_styles():
    """Style images are of subjects that neither train nor test."""
    subjects = in_memory(HeartSlices(12, (32, 32), vendors=("A", "B", "A"), diseases=("NOR",)))
    test = in_memory(HeartSlices(6, (32, 32), start=20, vendors=("A", "B"), diseases=("NOR",)))
    config, overrides = folder_config("domain_shift", experiment__vendor_pattern=VENDOR)
    configure("domain_shift", config, overrides)
    sources = Sources(subjects, subset(subjects, (0, 1)), test, subjects.info)
    shown, bank = by_vendor(config, sources, overrides, 2)
    assert {name[0] for name in shown.train.info.case_names} == {"A"} and len(shown.train) == 8
    assert len(shown.validation) == 1 and len(shown.test) == 6
    assert config.experiment.target_vendor == "B" and set(bank) == {"B"}
    seen = {shown.train[i]["image"].tobytes() for i in range(8)}
    assert bank["B"].shape == (2, 32, 32, 1) and bank["B"][0].tobytes() not in seen
    (part,) = usability.domain_shift(Setting(config, shown, ready(OracleGenerator())))
    assert "real+synthetic, vendor B" in part.arms and "real+synthetic, vendor C" not in part.arms
    alone = dataclasses.replace(sources, test=subset(test, (0, 2)))
    with pytest.raises(ValueError, match="vendor 'B' 0 test subjects"):
        by_vendor(config, alone, overrides, 2)


def test_scars_need_slices_with_scars(tmp_path):
    label = np.zeros((8, 8), np.uint8)
    label[2:4, 2:4] = 1
    for name in ("a", "b"):
        for kind, array in (("images", label.astype(np.float32)), ("labels", label)):
            write_volume(tmp_path / kind / f"{name}.nii.gz", array, np.eye(4))
    config, overrides = folder_config(
        "scar", data__folder=str(tmp_path), data__test="1", data__validation="0", data__train="0"
    )
    configure("scar", config, overrides)
    with pytest.raises(ValueError, match="2D slices with the classes background, lv_blood"):
        folder_setting("scar", config, "oracle", overrides)


def test_readings_and_groups_of_an_experiment(tmp_path):
    """Gains by vendor: on those trained on, and on others; both tables are on the page."""
    gains = {"none": 0.0, "real+synthetic 1:1": 0.1, "real+warped": 0.0}
    results = make_results(cases=4, gains=gains, budgets=(8,))
    names = {f"case_{i}": f"{'AB'[i % 2]}-NOR-{i}" for i in range(4)}
    runs = []
    real = [dataclasses.replace(r, arm="real") for r in results.runs if r.arm == "none"]
    others = [r for r in results.runs if r.arm != "none"]
    for run in (*real, *others):
        scores = {names[case]: found for case, found in run.scores.items()}
        if run.arm != "real":  # no gain on B
            for case, kinds in scores.items():
                if case[0] == "B":
                    other = next(r for r in real if r.seed == run.seed)
                    old = next(k for k, v in names.items() if v == case)
                    for kind, values in kinds.items():
                        values["dice"] = other.scores[old][kind]["dice"]
        runs.append(dataclasses.replace(run, scores=scores))
    results = dataclasses.replace(
        results,
        runs=tuple(runs),
        arms={"real": "", **{name: text for name, text in results.arms.items() if name != "none"}},
        reference_arm="real",
        overlays=(),
        samples={},
    )
    vendors = [case[0] for case in results.cases]
    found = findings_of("augmentation", results, vendors, ("A",))
    assert set(found) == {"real+synthetic 1:1"}
    known = found["real+synthetic 1:1"]
    assert known.gain_source > 0.05 and known.gain_unseen == pytest.approx(0)
    (text,) = texts_of(found)
    assert "variety of styles is missing" in text
    tables = group_tables(results, {"vendor": VENDOR, "disease": ""})
    assert [t.what for t in tables] == ["vendor"] and tables[0].names == ("A", "B")
    page = write_report(results, tmp_path / "r.html", readings=(text,), groups=tables).read_text()
    assert "Dice by vendor" in page and "variety of styles is missing" in page


def test_what_fewer_real_subjects_keep(tmp_path):
    """Ratios and paired differences to all real subjects, by hand; who counts as equivalent."""
    gains = {"none": 0.0, "real+synthetic": 0.004}
    results = make_results(cases=6, gains=gains, budgets=(4, 8), seeds=(0,))
    rename = {"none": "real"}
    runs = [dataclasses.replace(r, arm=rename.get(r.arm, r.arm)) for r in results.runs]
    full = {c: v for r in runs if (r.arm, r.budget) == ("real", 8) for c, v in r.scores.items()}
    kept = []
    for run in runs:  # 4 real subjects alone lose a fifth, filled up next to nothing
        factor = {("real", 4): 0.8, ("real+synthetic", 4): 0.999}.get((run.arm, run.budget), 1)
        scores = {
            case: {k: {**v, "dice": factor * v["dice"]} for k, v in kinds.items()}
            for case, kinds in full.items()
        }
        if (run.arm, run.budget) != ("real+synthetic", 8):
            kept.append(dataclasses.replace(run, scores=scores))
    results = dataclasses.replace(
        results,
        runs=tuple(kept),
        arms={rename.get(name, name): text for name, text in results.arms.items()},
        reference_arm="real",
        overlays=(),
        samples={},
    )
    table = retention_table(results)
    found = {(arm, budget): values for arm, budget, values in table.rows}
    assert set(found) == {("real", 4), ("real+synthetic", 4)}
    mean = np.mean([np.mean([v["dice"] for v in kinds.values()]) for kinds in full.values()])
    assert found["real", 4][:2] == pytest.approx((0.8, -0.2 * mean))
    assert found["real+synthetic", 4][:2] == pytest.approx((0.999, -0.001 * mean))
    assert found["real", 4][2] < found["real", 4][1] < found["real", 4][3]
    (text,) = equivalences(table)
    assert text.startswith("real+synthetic, 4 real subjects: as good as all of them")
    page = write_report(results, tmp_path / "r.html", readings=(text,), groups=(table,)).read_text()
    assert "What fewer real subjects keep" in page and "0.999" in page


def disc(radius, wall, size=40):
    x = np.arange(size) - size / 2
    distance = np.hypot(x[:, None], x)
    return np.where(distance < radius, 1, np.where(distance < radius + wall, 2, 0)).astype(np.int32)


def test_hearts_of_a_label_model_take_the_place_of_the_subjects(monkeypatch):
    """Same centre, scaled to the subject's pixels; slices and whole volumes; organs stay."""
    stack = np.stack([disc(r, 3) for r in (9, 8, 7, 6)]).astype(np.uint8)
    subject = label_models.SyntheticSubject(stack, (8.0, 2.0, 2.0), ("s",), 1.0, "pathology", 0)
    monkeypatch.setattr(label_models, "synthesise", lambda *_: subject)
    nobody = object.__new__(label_models.Population)
    deform = label_models.hearts_of(nobody, "pathology", (1.0, 1.0))
    label = np.full((2, 96, 96), 5, np.int32)
    own = np.pad(disc(4, 2), ((30, 26), (20, 36)))
    label = np.where(own > 0, own, label).astype(np.int32)
    made = deform(0, label)
    assert set(np.unique(made)) == {1, 2, 5}
    radii = [np.sqrt((one == 1).sum() / np.pi) for one in made]
    assert all(11 < radius < 19 for radius in radii)  # twice those of the model's pixels
    centre = np.argwhere(made[0] == 1).mean(0)
    np.testing.assert_allclose(centre, np.argwhere(label[0] == 1).mean(0), atol=1)
    volume = np.stack([np.zeros_like(own), *[disc(r, 2, 96) for r in (9, 8, 7)]], -1)[None]
    deep = label_models.hearts_of(nobody, "pathology", (2.0, 2.0, 9.0))(0, volume)
    areas = (deep[0] == 1).sum((0, 1))
    assert areas[0] == 0 and areas[1] == (stack[0] == 1).sum() and areas[3] == (stack[3] == 1).sum()
    with pytest.raises(ValueError, match="'magic' of a model of label maps"):
        label_models.hearts_of(nobody, "magic", (1.0, 1.0))
