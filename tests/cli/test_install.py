"""The install: neither TensorFlow nor torch, and everything that is imported is declared."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from unittest import mock

import setuptools

ROOT = pathlib.Path(__file__).parents[2]

IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys
import jaxmedgen
for module in pkgutil.walk_packages(jaxmedgen.__path__, "jaxmedgen."):
    importlib.import_module(module.name)
forbidden = [m for m in ("tensorflow", "torch", "monai") if m in sys.modules]
print(json.dumps({"modules": sorted(sys.modules), "forbidden": forbidden}))
"""

IMPORT_NAMES = {
    "pillow": "PIL",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "orbax-checkpoint": "orbax",
    "absl-py": "absl",
}
"""Distribution -> import name, where it is not the same with underscores."""


def setup_arguments():
    """What setup.py hands to setuptools."""
    spec = importlib.util.spec_from_file_location("jaxmedgen_setup", ROOT / "setup.py")
    with mock.patch.object(setuptools, "setup") as called:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return called.call_args.kwargs


def names(requirements):
    return {r.split("[")[0].split(">")[0].split("=")[0].strip() for r in requirements}


def test_every_module_imports_without_tensorflow_and_torch():
    """In a fresh process, the lazily imported ones included."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=ROOT,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["forbidden"] == []
    for module in ("jaxmedgen.cli.main", "jaxmedgen.experiments.ablation"):
        assert module in found["modules"]
    assert "jaxmedgen.data.tfds_source" in found["modules"]


def test_neither_is_required():
    arguments = setup_arguments()
    required = names(arguments["install_requires"])
    assert not required & {"tensorflow", "tensorflow-cpu", "tf-nightly", "torch", "monai"}
    for extra, requirements in arguments["extras_require"].items():
        if extra != "bench":
            assert not names(requirements) & {"tensorflow", "torch"}, extra


def test_what_is_required_is_there():
    """A distribution that no longer exists, or is misspelt, would show here."""
    for name in names(setup_arguments()["install_requires"]):
        module = IMPORT_NAMES.get(name, name.replace("-", "_"))
        assert importlib.util.find_spec(module) is not None, name


def test_the_package_ships_what_it_reads_at_run_time():
    arguments = setup_arguments()
    assert "jaxmedgen.report" in arguments["packages"]
    patterns = arguments["package_data"]["jaxmedgen"]
    for file in (ROOT / "jaxmedgen").rglob("*"):
        if file.is_file() and file.suffix not in (".py", ".pyc"):
            relative = file.relative_to(ROOT / "jaxmedgen")
            assert any(relative.match(p) for p in patterns), f"{relative} is not in package_data"


def test_an_installed_package_finds_its_configurations(tmp_path):
    """Without a checkout beside it."""
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    names = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    use = "from jaxmedgen.configuration import load_config\n"
    use += f"print([load_config(name).steps for name in {names}])"
    done = subprocess.run(
        [sys.executable, "-c", use],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == len(names)
