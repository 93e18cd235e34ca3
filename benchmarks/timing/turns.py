"""Two sides of a comparison in processes of their own that take turns.

Each side runs the same program with ``--worker NAME``; while one is at work the other waits on its
standard input, so that they share the machine but never its cores at one time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SIDES = ("jaxmedgen", "torch")
"""In this order: the first writes weights and results for the second."""


def add_arguments(parser: argparse.ArgumentParser, *, batch: int, steps: int) -> None:
    """The options of a comparison with PyTorch, with defaults, and those of its two sides."""
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=steps, help="steps a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--exchange", type=Path, help=argparse.SUPPRESS)


def compare_sides(module: str, args: argparse.Namespace, **options: Any) -> dict[str, Any]:
    """Both sides of a benchmark in turn.

    Args:
        module: ``benchmarks.NAME``; its ``--worker SIDE`` calls `serve_side`.
        args: of `add_arguments`.
        options: further options of the sides.

    Returns:
        ``jaxmedgen_s``, ``torch_s`` (medians of the seconds a step over the rounds),
        ``speed_ratio``, the ``difference`` that the second side found, and all ``rounds_s``.
    """
    with tempfile.TemporaryDirectory() as folder:
        shared = {name: getattr(args, name) for name in ("batch", "steps", "threads")}
        shared |= {**options, "exchange": f"{folder}/exchange.npz"}
        words = [word for name, value in shared.items() for word in (f"--{name}", str(value))]
        commands = {
            side: [sys.executable, "-m", module, "--worker", side, *words] for side in SIDES
        }
        ready, times = take_turns(commands, args.rounds)
    ours, theirs = (statistics.median(times[side]) for side in SIDES)
    return {
        "jaxmedgen_s": ours,
        "torch_s": theirs,
        "speed_ratio": theirs / ours,
        "difference": ready["difference"],
        "rounds_s": times,
    }


def measure(
    benchmark: str,
    args: argparse.Namespace,
    *,
    label: str = "",
    what: str = "losses",
    peer: str = "torch",
    unit: str = "step",
    **options: Any,
) -> dict[str, Any]:
    """As `compare_sides` of a benchmark's name, and prints the result in a line.

    Args:
        benchmark: its name.
        args: of `add_arguments`.
        label: what was measured, in front of the line.
        what: the numbers that the sides were compared by.
        peer: name of the second side.
        unit: what one call of a side does.
        options: further options of the sides.
    """
    result = compare_sides(f"benchmarks.{benchmark}", args, **options)
    print(
        f"{label}jaxmedgen {1e3 * result['jaxmedgen_s']:.1f} ms, {peer} "
        f"{1e3 * result['torch_s']:.1f} ms a {unit}; {result['speed_ratio']:.2f}x of {peer}'s "
        f"speed ({what} differ by {result['difference']:.1e})"
    )
    return result


def print_json(benchmark: str, args: argparse.Namespace, **fields: Any) -> None:
    """A line of JSON: the benchmark, its settings and results."""
    settings = {"threads": args.threads, "batch": args.batch}
    print(json.dumps({"benchmark": benchmark, **settings, **fields}))


def serve_side(
    args: argparse.Namespace, build: Callable[[], tuple[Callable[[], Any], float]]
) -> None:
    """One side: builds its step on its cores, then times it whenever it is asked to.

    Args:
        args: of `add_arguments`.
        build: makes the step and says how far its numbers are from the other side's.
    """
    # Cores are given to both alike: XLA knows no number of threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    step, difference = build()
    serve_turns(step, args.steps, {"difference": difference})


def take_turns(
    commands: Mapping[str, Sequence[str]], rounds: int
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Starts the sides one after the other and lets them work in turn.

    Args:
        commands: command line of each side, started in this order, each when the last is ready.
        rounds: turns a side.

    Returns:
        What the last side said when it was ready, and the seconds of every turn of each side.
    """
    sides = {}
    for name, command in commands.items():
        sides[name] = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        ready = _answer(name, sides[name])
    times = {name: [] for name in sides}
    for _ in range(rounds):
        for name, process in sides.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            times[name].append(_answer(name, process)["seconds"])
    for process in sides.values():
        process.stdin.close()
        process.wait()
    return ready, times


def serve_turns(step: Callable[[], Any], steps: int, ready: Mapping[str, Any]) -> None:
    """A side's part: warms up, says `ready`, then times `steps` steps whenever it is asked to."""
    for _ in range(2):
        step()
    print(json.dumps(dict(ready)), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        print(json.dumps({"seconds": (time.perf_counter() - start) / steps}), flush=True)


def _answer(name: str, process: subprocess.Popen) -> dict[str, Any]:
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"error: the side '{name}' stopped: its message stands above")
    return json.loads(line)
