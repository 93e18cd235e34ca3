"""Seconds from process start to the end of the first training step of the demo's segmenter.

    python benchmarks/cold_start.py

Cold: no compiled programs are kept from before. Warm: the compilation cache of the cold start is
there. Both make the phantoms anew. Peers have no compilation; what users feel is the sum.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 3


def start(workdir: pathlib.Path, cache: pathlib.Path) -> float:
    """Runs one step in a new process; returns wall seconds."""
    code = (
        "import pathlib, sys\n"
        "from jaxmedgen.configuration import load_config\n"
        "from jaxmedgen.data.build import build_sources\n"
        "from jaxmedgen.experiments.training import train\n"
        "from jaxmedgen.systems.base import build_system\n"
        "from jaxmedgen.train.progress import Progress\n"
        "config = load_config('demo', {'steps': '1', 'optimizer.warmup': '0', 'eval_every': '0',\n"
        "    'augment.preset': 'classic', 'data.train': '2', 'data.validation': '0',\n"
        "    'data.test': '0'})\n"
        "sources = build_sources(config.data)\n"
        "train(config, sources, build_system(config, sources.info), pathlib.Path(sys.argv[1]),\n"
        "    cache=pathlib.Path(sys.argv[2]), progress=Progress(quiet=True))\n"
    )
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, str(workdir), str(cache)], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Interleaves cold and warm starts and prints medians."""
    cold, warm = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            cold.append(start(root / "a", root / "cache"))
            warm.append(start(root / "b", root / "cache"))
    result = {"cold_s": statistics.median(cold), "warm_s": statistics.median(warm)}
    print(f"cold {result['cold_s']:.1f} s, warm {result['warm_s']:.1f} s (medians of {ROUNDS})")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
