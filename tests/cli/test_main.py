"""The command line: help with examples, and errors of one line that name the thing and the fix."""

import importlib
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from jaxmedgen.cli import common
from jaxmedgen.cli.common import split_overrides
from jaxmedgen.cli.main import VERBS
from jaxmedgen.configuration import ConfigError
from jaxmedgen.train.interrupt import Interrupted

ROOT = pathlib.Path(__file__).parents[2]


def test_the_overview_names_every_verb(run):
    for arguments in ([], ["--help"], ["-h"]):
        status, out, _ = run(*arguments)
        assert status == 0
        for verb in VERBS:
            assert re.search(rf"^  {verb} ", out, re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example_that_is_no_lie(run, verb):
    """Examples use flags that the help explains, and configurations that exist."""
    status, out, _ = run(verb, "--help")
    assert status == 0
    assert "example" in out
    assert f"bin/{verb} " in out
    examples, explained = out.split("options:")
    for flag in set(re.findall(r"(?<![\w-])--[a-z]+(?=[ =\n])", examples)) - {"--help"}:
        assert flag in explained, f"{flag} is in an example of {verb} but not explained"
    for path in re.findall(r"configs/\w+\.py", out):
        assert (ROOT / path).exists(), f"{verb} --help names {path}, which does not exist"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_executable(verb):
    path = ROOT / "bin" / verb
    assert os.access(path, os.X_OK)
    assert f"jaxmedgen.cli.main {verb} " in path.read_text()


@pytest.mark.parametrize("name", ["demo", "test"])
def test_help_of_the_scripts_makes_no_environment(name):
    done = subprocess.run(
        [ROOT / "bin" / name, "--help"], capture_output=True, text=True, timeout=20, check=True
    )
    assert "example" in done.stdout
    assert f"bin/{name}" in done.stdout
    assert done.stderr == ""


def test_an_unknown_verb(fails):
    message = fails("trian", "--workdir", "w")
    assert "unknown verb 'trian'" in message
    assert "train" in message


UNUSED = (
    (["--slice-axis", "2"], "--labels"),
    (["--checkpoint", "best"], "--workdir"),
    (["--checkpoint", "last"], "--workdir"),
)
RENDER = ["sample", "--workdir", "w", "--output", "o", "--labels", "l"]
NOT_FOR_LABELS = (
    *(["--method", "between"], ["--condition", "3"], ["--disease", "HCM"], ["--t", "0.5"]),
    *(["--spherical"], ["--count", "3"], ["--style", "own"], ["--config.a=1"]),
    ["--count", "1", "--style", "a", "--to-style", "b"],
    ["--count", "3", "--style", "a", "--to-style", "b", "--style-by-place"],
)
"""Flags that images of label files do not look at."""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--config", "unet"], "--workdir"),
        (["train", "--workdir", "w"], "--config"),
        (["predict", "--workdir", "w", "--input", "x"], "--output"),
        (["sample", "--output", "o"], "--config --workdir"),
        (["evaluate", "--workdir", "w", "--checkpoint", "worst"], "worst"),
        (["sample", "--workdir", "w", "--output", "o", "--checkpoint", "worst"], "worst"),
        (["evaluate", "--workdir", "w", "--bogus"], "--bogus"),
        (["ablate", "--workdir", "w", "--labelled", "few"], "few"),
        (["sample", "--config", "unet", "--output", "o", "--count", "0"], "--count 0"),
        (["ablate", "--work", "w"], "--workdir"),
        *((["sample", "--config", "unet", "--output", "o", *a], b) for a, b in UNUSED),
        *(([*RENDER, *flags], flags[0].partition(".")[0]) for flags in NOT_FOR_LABELS),
    ],
)
def test_wrong_flags_point_to_the_help(fails, arguments, expected):
    message = fails(*arguments)
    assert expected in message
    assert f"bin/{arguments[0]} --help" in message


@pytest.mark.parametrize(
    ("config", "override", "expected"),
    [
        ("unet", "--config.step=3", "did you mean 'config.steps'?"),
        ("unet", "--config.net.feature=(4, 8)", "did you mean 'config.net.features'?"),
        ("unet", "--config.steps=many", "config.steps='many' is not"),
        ("unet:huge", "--config.steps=3", "unknown value of 'size' 'huge'"),
        ("unet:cpu,arm=clasic", "--config.steps=3", "did you mean 'classic'?"),
        ("unett", "--config.steps=3", "did you mean 'unet'?"),
        ("unet", "--config.steps", "--config.steps=VALUE"),
    ],
)
def test_wrong_configurations(fails, tmp_path, config, override, expected):
    workdir = tmp_path / "w"
    assert expected in fails("train", "--config", config, "--workdir", workdir, override)
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["--config.data.kind=brains"], "choose one of brain, lesions, shapes"),
        (["--config.data.kind=folder"], "--config.data.folder=PATH"),
        (["--config.augment.preset=clasic"], "did you mean 'classic'"),
        (["--config.system=jaxmedgen.systems.nothing"], "jaxmedgen.systems.nothing"),
        (["--config.optimizer.kind=lion"], "choose one of adam, amsgrad, adamw, sgd"),
        (["--config.optimizer.warmup=99"], "warmup=99"),
        (["--config.batch_size=3", "--config.parallel.data=2"], "batch_size=3"),
        (["--config.parallel.backend=xmap"], "parallel.backend 'xmap'"),
        (["--config.parallel.space=64"], "does not fit"),
    ],
)
def test_settings_that_do_not_fit_are_named(fails, tiny, tmp_path, overrides, expected):
    arguments = ["train", "--config", "unet", "--workdir", tmp_path / "w", "--quiet"]
    assert expected in fails(*arguments, *tiny, *overrides)


def test_an_unknown_arm_names_the_nearest(fails, tmp_path):
    arms = ["--arms", "none,difeomorphic", "--workdir", tmp_path / "w"]
    assert "did you mean 'diffeomorphic'?" in fails("ablate", *arms)
    arms = ["--arms", "none,none", "--workdir", tmp_path / "w"]
    assert "named twice" in fails("ablate", *arms)


def test_a_missing_data_folder(fails, tmp_path):
    data, workdir = tmp_path / "absent", tmp_path / "w"
    train = ["train", "--config", "unet", "--workdir", workdir, "--data", data]
    assert f"{data}: no such folder" in fails(*train)
    assert f"{data}: no such folder" in fails("ablate", "--workdir", workdir, "--data", data)


@pytest.mark.parametrize("verb", ["evaluate", "predict", "sample"])
def test_a_folder_without_a_run(fails, tmp_path, verb):
    more = {"predict": ["--input", tmp_path, "--output", tmp_path / "o"]}
    more["sample"] = ["--output", tmp_path / "o"]
    message = fails(verb, "--workdir", tmp_path / "absent", *more.get(verb, []))
    assert str(tmp_path / "absent") in message
    assert "config.json" in message
    assert "bin/train" in message


def test_the_environment_can_ask_for_tracebacks(run, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXMEDGEN_TRACEBACK", "1")
    with pytest.raises(ConfigError, match="not a trained run"):
        run("evaluate", "--workdir", tmp_path)


def test_overrides_in_both_forms():
    rest, overrides = split_overrides(
        ["--config", "unet", "--config.steps=5", "--quiet", "--config.net.norm", "batch", "x"]
    )
    assert rest == ["--config", "unet", "--quiet", "x"]
    assert overrides == {"steps": "5", "net.norm": "batch"}
    assert split_overrides(["--config.a=b=c"])[1] == {"a": "b=c"}
    assert split_overrides(["--config.a="])[1] == {"a": ""}
    assert split_overrides(["--config.a", "-1"])[1] == {"a": "-1"}
    with pytest.raises(ConfigError, match=r"--config.seed needs a value"):
        split_overrides(["--config.seed"])


@pytest.mark.parametrize("stopped", [KeyboardInterrupt(), Interrupted()])
def test_a_stop_without_a_word_tells_how_to_go_on(capsys, stopped):
    def stop(arguments):
        raise stopped

    assert common.run(stop, []) == 130
    assert capsys.readouterr().err == "\nstopped: run the same command again to go on\n"


def test_a_signal_while_modules_are_imported_ends_with_a_hint(run, monkeypatch):
    def import_module(name):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(importlib, "import_module", import_module)
    status, _, err = run("train", "--workdir", "w")
    assert status == 130
    assert "stopped: run the same command again" in err
