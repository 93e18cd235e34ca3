"""Two sides of a comparison in processes of their own that take turns.

Each side runs the same program with ``--worker NAME``; while one is at work the other waits on its
standard input, so that they share the machine but never its cores at one time.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


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
