"""``bin/ablate`` from flags to the report."""

import json
import re

import jax
import pytest

from jaxmedgen.cli.main import main


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny):
    """The command of a study of one budget, run once."""
    workdir = tmp_path_factory.mktemp("work") / "study"
    tiny = [t for t in tiny if "data.train" not in t]
    arguments = ["ablate", "--arms", "none,light", "--seeds", "1", "--workdir", str(workdir)]
    arguments += [*tiny, "--config.steps=4", "--config.eval_every=2", "--quiet", "--labelled"]
    before = jax.config.jax_compilation_cache_dir
    assert main([*arguments, "1"]) == 0
    yield workdir, arguments
    jax.config.update("jax_compilation_cache_dir", before)


def test_the_report_lies_where_it_is_said_to(run, study):
    workdir, arguments = study
    before = (workdir / "runs/none/n1/seed0/scores.json").stat().st_mtime_ns
    status, out, err = run(*arguments, "1")
    assert status == 0, err
    assert (workdir / "runs/none/n1/seed0/scores.json").stat().st_mtime_ns == before
    assert f"report: {workdir / 'report.html'}" in out
    assert "vs none" in out
    page = (workdir / "report.html").read_text()
    assert re.findall(r"""(?:src|href)=["'](?!data:|\#)""", page) == []
    assert "bin/ablate" in page
    for name in ("report.json", "report.csv", "report_cases.csv", "results/results.json"):
        assert (workdir / name).is_file(), name
    assert json.loads((workdir / "study.json").read_text())["arms"] == ["none", "light"]


def test_a_budget_can_be_added(run, study):
    """As the help says."""
    workdir, arguments = study
    before = (workdir / "runs/none/n1/seed0/scores.json").stat().st_mtime_ns
    status, _, err = run(*arguments, "1,2")
    assert status == 0, err
    assert (workdir / "runs/none/n1/seed0/scores.json").stat().st_mtime_ns == before
    assert (workdir / "runs/light/n2/seed0/scores.json").is_file()


def test_other_settings_are_refused(fails, study):
    workdir, arguments = study
    message = fails(*arguments, "1", "--config.steps=5")
    assert "steps: 4 -> 5" in message
    assert str(workdir) in message
    assert "--absent 'excluded', not" in fails(*arguments, "1", "--absent", "right")


def test_the_arms_are_listed_without_a_study(capsys):
    with pytest.raises(SystemExit) as left:
        main(["ablate", "--list-arms"])
    out = capsys.readouterr().out
    assert left.value.code == 0
    for name in ("none ", "paddit-map ", "octahedral ", "presets: ", "with +PRESET"):
        assert f"\n{name}" in f"\n{out}", name


def test_what_an_experiment_does_not_look_at_is_refused(fails, tmp_path):
    message = fails(
        *("ablate", "--experiment", "scar", "--arms", "none", "--workdir", str(tmp_path))
    )
    assert "leave out --arms and --labelled" in message
    message = fails(
        *("ablate", "--experiment", "scar", "--absent", "right", "--workdir", str(tmp_path))
    )
    assert "leave out --regions and --absent" in message


def test_a_study_without_power_says_so_before_it_trains(run, study):
    """Two test subjects cannot tell any arm from another."""
    _, arguments = study
    _, out, _ = run(*arguments, "1")
    first = out[: out.index("vs none")]
    assert "smallest possible corrected p-value is 0.500" in first
    assert "takes 6 test cases" in first and "--config.data.test=NUMBER" in first
