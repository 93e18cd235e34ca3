"""The interpreter that the executables of bin/ choose."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = """
cd {root}
. bin/environment.sh
root={empty}
make_environment() {{ echo "made $1"; }}
use_python
echo "$python"
"""


def _environment(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    return environment


def _interpreter(path, flags):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {flags} "$@"\n')
    path.chmod(0o755)


def _chosen(tmp_path):
    command = ["bash", "-c", SCRIPT.format(root=ROOT, empty=tmp_path)]
    environment = _environment(tmp_path)
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return out.stdout.splitlines()[0]


@pytest.mark.parametrize(("flags", "expected"), [("-S", "made dev"), ("", "python3")])
def test_a_clone_without_packages_is_not_taken_for_an_installation(tmp_path, flags, expected):
    """In the clone's own folder ``import jaxmedgen`` finds the sources, not their requirements."""
    _interpreter(tmp_path / "python3", flags)
    assert _chosen(tmp_path) == expected


def test_an_environment_whose_making_was_cut_short_is_made_again(tmp_path):
    """It has an interpreter, but pip did not come to the end; a stamp says that it did."""
    own = tmp_path / ".venv" / "bin" / "python"
    _interpreter(own, "-S")
    _interpreter(tmp_path / "python3", "-S")
    assert _chosen(tmp_path) == "made dev"
    (tmp_path / ".venv" / ".jaxmedgen-dev").write_text("")
    assert _chosen(tmp_path) == str(own)
