"""The documentation's commands parse, its links resolve, and CONTRIBUTING's system trains."""

import ast
import contextlib
import importlib.util
import io
import json
import pathlib
import re
import shlex
import sys

import jax
import pytest

from jaxmedgen.cli.common import split_overrides
from jaxmedgen.cli.main import VERBS, main
from jaxmedgen.configuration import flatten, load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.experiments.reproductions.record import with_thresholds
from jaxmedgen.experiments.training import train
from jaxmedgen.systems.base import CanPredict, System, build_system
from jaxmedgen.train.metrics_log import read_metrics
from jaxmedgen.train.progress import Progress

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SYSTEM_PAGES = sorted((ROOT / "docs" / "systems").glob("*.md"))
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def commands(text):
    """Lines of the form ``bin/VERB ...``, continuation lines joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [c.strip() for c in re.findall(r"^\s*(?:\$ )?(bin/\w+.*?)(?:  +#.*)?$", joined, re.M)]


def all_commands():
    found = {}
    for page in PAGES:
        blocks = re.findall(r"```(?:bash|console)\n(.*?)```", page.read_text(), re.S)
        for command in commands("\n".join(blocks)):
            found.setdefault(command, page.name)
    for config in CONFIGS:
        for command in commands(config.read_text().split('"""')[1]):
            found.setdefault(command, config.name)
    return found


@pytest.fixture(scope="module")
def helps():
    """What each verb's --help says."""
    found = {}
    for verb in VERBS:
        if importlib.util.find_spec(f"jaxmedgen.cli.{verb}") is not None:
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
                main([verb, "--help"])
            found[verb] = out.getvalue()
    return found


@pytest.mark.parametrize("command", all_commands(), ids=lambda c: c[:60])
def test_every_command_of_the_documentation_parses(helps, command):
    executable, *arguments = shlex.split(command, comments=True)
    assert (ROOT / executable).is_file()
    verb = executable.removeprefix("bin/")
    if verb == "test" or (verb == "demo" and not arguments):
        return
    verb = "ablate" if verb == "demo" else verb
    assert verb in helps, f"{command}: there is no such verb"
    rest, overrides = split_overrides([a for a in arguments if a != "..."])
    for flag in (a.split("=")[0] for a in rest if a.startswith("--")):
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", helps[verb]), f"{flag} of {command}"
    loaded = None
    if "--config" in rest:
        name = rest[rest.index("--config") + 1]
        if name not in ("...", "configs/typo.py", "configs/tiny.py"):
            assert (ROOT / name.split(":")[0]).is_file() or "/" not in name
            loaded = load_config(str(ROOT / name) if "/" in name else name)
    # Of a trained run bin/sample changes the sampler alone.
    drawn = verb == "sample" and "--workdir" in rest
    experiment = "synthetic_data_evaluation" if "--experiment" in rest else "unet"
    if loaded is None:
        loaded = load_config("rhvae" if drawn else experiment)
    known = flatten(loaded)
    for key in overrides:
        assert key in known or key == "step", f"--config.{key} of {command}"  # step: the typo


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_resolve(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for _, target in re.findall(r"(!?)\[[^\]]*\]\(([^)#\s]+)[^)]*\)", text):
        if "://" in target or (page.parent / target).exists():
            continue
        pytest.fail(f"{page.name} links to {target}, which does not exist")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    """Paths in backticks; those of the worked example and of work folders are not in the tree."""
    for path in re.findall(
        r"`((?:jaxmedgen|configs|tests|bin|benchmarks)/[\w./]+)`", page.read_text()
    ):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


@pytest.mark.parametrize("page", SYSTEM_PAGES, ids=lambda p: p.stem)
def test_thresholds_are_those_of_the_records(page):
    text, record = page.read_text(), ROOT / "docs" / "results" / f"{page.stem}.json"
    if not record.exists():
        assert "<!-- thresholds" not in text
        return
    fresh = with_thresholds(text, json.loads(record.read_text()))
    assert fresh == text, f"{page.name} is older than its record: run python docs/thresholds.py"


def test_the_example_system_of_contributing_trains(tmp_path, monkeypatch):
    """The code as it is printed: it lowers the loss and has the abilities it promises."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    system_code, config_code = (
        next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if name in block)
        for name in ("# jaxmedgen/systems/segmentation/tiny.py", "# configs/tiny.py")
    )
    (tmp_path / "tiny_system.py").write_text(system_code)
    (tmp_path / "tiny.py").write_text(config_code)
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = {
        "system": "tiny_system",
        "data.kind": "shapes",
        "data.shape": "(16, 16)",
        "data.train": "4",
        "data.validation": "1",
        "data.test": "1",
        "augment.preset": "light",
        "steps": "20",
        "log_every": "10",
        "eval_every": "20",
        "optimizer.warmup": "2",
        "optimizer.learning_rate": "1e-2",
        "parallel.data": "2",
    }
    plain = load_config(f"{tmp_path / 'tiny.py'}:cpu")
    assert plain.system == "jaxmedgen.systems.segmentation.tiny"
    config = load_config(str(tmp_path / "tiny.py"), overrides)
    sources = build_sources(config.data)
    system = build_system(config, sources.info)
    assert isinstance(system, System)
    assert isinstance(system, CanPredict)
    before = jax.config.jax_compilation_cache_dir
    try:
        train(config, sources, system, tmp_path / "run", progress=Progress(quiet=True))
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        sys.modules.pop("tiny_system", None)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    losses = [line["loss"] for line in lines if line["split"] == "train"]
    assert losses[1] < losses[0]
    assert 0 <= lines[-1]["dice"] <= 1


def test_the_one_line_arm_of_contributing_works():
    from jaxmedgen.experiments.arms import ARMS, ArmTraining, preset_arm

    text = (ROOT / "CONTRIBUTING.md").read_text()
    (line,) = re.findall(r"^(\"blurred\": preset_arm.*)$", text, re.M)
    (entry,) = ast.parse("{" + line + "}", mode="eval").body.values
    arm = preset_arm(*map(ast.literal_eval, entry.args))
    training = arm.prepare(None)
    assert isinstance(training, ArmTraining) and "blurred" not in ARMS
    assert training.changes["augment.preset"] == "companions"


def test_the_navigation_names_every_page():
    listed = set(re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    pages = {page for page in pages if not page.startswith("results/")}  # written by bin/reproduce
    assert listed == pages
