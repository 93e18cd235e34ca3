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


@pytest.mark.parametrize(("flags", "expected"), [("-S", "made dev"), ("", "python3")])
def test_a_clone_without_packages_is_not_taken_for_an_installation(tmp_path, flags, expected):
    """In the clone's own folder ``import jaxmedgen`` finds the sources, not their requirements."""
    interpreter = tmp_path / "python3"
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} {flags} "$@"\n')
    interpreter.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    script = SCRIPT.format(root=ROOT, empty=tmp_path)
    out = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.splitlines()[0] == expected
