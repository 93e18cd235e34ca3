"""``bin/bench``: runs the benchmarks of benchmarks/."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from jaxmedgen.cli.common import Parser

EXAMPLE = """Runs a benchmark of benchmarks/ and prints its table; without a name it lists them.

Each benchmark measures this library and a peer on the same work in one interleaved run. Peers are
not installed by default: pip install -e '.[bench]'.

examples:
  bin/bench
  bin/bench unet_step
  bin/bench --what ops          # the operators alone, with their share of this machine's peaks
"""


def main(arguments: Sequence[str]) -> int:
    """Lists or runs benchmarks; the exit status is the benchmark's."""
    parser = Parser(prog="bin/bench", description=EXAMPLE)
    parser.add_argument("name", nargs="?", help="benchmark; all options after it go to it")
    parser.add_argument("--what", choices=("ops",), help="measure ours alone, without peers")
    options, rest = parser.parse_known_args(arguments)
    folder = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist: benchmarks need a clone of the project")
    if options.what:
        options.name, rest = options.what, ["--ours", *rest]
    programs = {p.stem: p for p in folder.glob("*.py")}
    programs |= {p.parent.name: p for p in folder.glob("*/__main__.py")}
    names = sorted(programs)
    if options.name is None:
        for name in names:
            first = programs[name].read_text().splitlines()[0].strip('"')
            print(f"  {name:12} {first}")
        return 0
    if options.name not in names:
        parser.error(f"no benchmark '{options.name}': choose one of {', '.join(names)}")
    environment = os.environ | {"PYTHONPATH": str(folder.parent)}
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{options.name}", *rest], env=environment, check=False
    ).returncode
