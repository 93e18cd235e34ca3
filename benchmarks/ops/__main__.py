"""Operators against their peers: convolution, resampling, exponential, shooting, groups, Radon.

pip install -e '.[bench]'
python -m benchmarks.ops --quick --json ops.json    # the CPU table, under 8 minutes on 2 cores
python -m benchmarks.ops --only conv,radon
python -m benchmarks.ops --ours                     # no peers: share of the machine's peaks

Ours and the peer take turns on the same number of threads; medians and their ratio are reported.
"""

import argparse
import importlib
import json
import pathlib
import sys

import jax

from benchmarks.ops.case import measure, peaks

FAMILIES = ("conv", "resample", "exp", "shoot", "group", "radon")


def main() -> int:
    """Runs the wanted families, prints a table and writes the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--only", default=",".join(FAMILIES), help="families, by comma")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--rounds", type=int, help="default: 7, or 3 with --quick")
    options = parser.parse_args()
    families = options.only.split(",")
    unknown = sorted(set(families) - set(FAMILIES))
    if unknown:
        parser.error(f"no family {', '.join(unknown)}: choose of {', '.join(FAMILIES)}")
    rounds = options.rounds or (3 if options.quick else 7)
    top = peaks() if options.ours else {}
    print(f"{jax.devices()[0].device_kind}, {jax.device_count()} device(s), medians of {rounds}")
    if top:
        print(f"peaks: {top['gflops']:.0f} GFLOP/s (matrix product), {top['gbytes']:.1f} GB/s")
    lines = []
    for family in families:
        module = importlib.import_module(f"benchmarks.ops.{family}")
        for case in module.cases(quick=options.quick, peers=not options.ours):
            line = measure(case, rounds)
            lines.append(line)
            print(_row(line, top), flush=True)
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1) + "\n")
    return 0


def _row(line: dict, top: dict) -> str:
    row = f"{line['name']:<44} {1e3 * line['ours_s']:10.2f} ms"
    if "ratio" in line:
        row += f" {1e3 * line['peer_s']:10.2f} ms  {line['ratio']:6.2f}x  {line['peer']}"
    for unit, name in (("gflops", "GFLOP/s"), ("gbytes", "GB/s")):
        if unit in line:
            row += f"  {line[unit]:7.1f} {name}"
            if top:
                row += f" ({100 * line[unit] / top[unit]:.0f} % of peak)"
    return row


if __name__ == "__main__":
    sys.exit(main())
