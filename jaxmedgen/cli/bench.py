"""``bin/bench``: runs the benchmarks of benchmarks/."""

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
"""


def main(arguments: Sequence[str]) -> int:
    """Lists or runs benchmarks; the exit status is the benchmark's."""
    parser = Parser(prog="bin/bench", description=EXAMPLE)
    parser.add_argument("name", nargs="?", help="benchmark; all options after it go to it")
    options, rest = parser.parse_known_args(arguments)
    folder = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist: benchmarks need a clone of the project")
    names = sorted(p.stem for p in folder.glob("*.py"))
    if options.name is None:
        for name in names:
            first = (folder / f"{name}.py").read_text().splitlines()[0].strip('"')
            print(f"  {name:12} {first}")
        return 0
    if options.name not in names:
        parser.error(f"no benchmark '{options.name}': choose one of {', '.join(names)}")
    return subprocess.run(
        [sys.executable, str(folder / f"{options.name}.py"), *rest], check=False
    ).returncode
