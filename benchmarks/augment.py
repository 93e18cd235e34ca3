"""The classic 3D augmentation policy and each transform: ours against MONAI and nnU-Net's own code.

    pip install -e '.[bench]' batchgeneratorsv2
    python -m benchmarks.augment --size 64 --rounds 7

With other work on the machine take ``--threads 1``: the peers' thread pools suffer most from it.

Batch 2, one channel, float32, image and label, on the CPU with the same number of threads. Ours is
one compiled call a batch; the peers transform one sample after the other, as they do in a loader.
The rows of single transforms run them on every sample; the row "classic" draws them with nnU-Net's
probabilities. The sides take turns within each round, and medians over the rounds are compared. A
peer that is not installed is left out, and said so. Prints a table and a line of JSON.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

BATCH = 2
NAMES = ("jaxmedgen", "monai", "batchgeneratorsv2")
Step = Callable[[], object]


def main() -> None:
    """Times all sides in turn and prints samples a second and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="edge of the volume")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5, help="batches a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--worker", choices=NAMES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        serve(args)
        return
    sides, transforms = {}, {}
    for name in NAMES:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.augment", "--worker", name]
        for option in ("size", "calls", "threads"):
            command += [f"--{option}", str(getattr(args, option))]
        side = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = json.loads(side.stdout.readline() or '{"error": "it ended early"}')
        if "error" in ready:
            print(f"{name} is left out ({ready['error']}): pip install {name}", file=sys.stderr)
        else:
            sides[name], transforms[name] = side, ready["transforms"]
    results = {}
    for transform in transforms["jaxmedgen"]:
        able = {name: side for name, side in sides.items() if transform in transforms[name]}
        results[transform] = compare(transform, able, args.rounds)
    for side in sides.values():
        side.stdin.close()
        side.wait()
    report(results, list(sides))
    settings = {"size": args.size, "threads": args.threads}
    print(json.dumps({"benchmark": "augment", **settings, "samples_per_s": results}))


def compare(transform: str, sides: dict[str, subprocess.Popen], rounds: int) -> dict[str, float]:
    """Samples a second of each side, medians over interleaved rounds; the first one warms up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            side.stdin.write(f"{transform}\n")
            side.stdin.flush()
            times[name].append(float(side.stdout.readline()))
    return {name: BATCH / statistics.median(values[1:]) for name, values in times.items()}


def serve(args: argparse.Namespace) -> None:
    """One side: runs the transforms named on standard input and answers with seconds a batch.

    A process of its own, for threads of one library that spin would slow the other's down.
    """
    # Cores are given to both alike: XLA knows no number of threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    rng = np.random.default_rng(0)
    space = (args.size,) * 3
    image = rng.normal(size=(BATCH, *space, 1)).astype(np.float32)
    label = rng.integers(0, 4, size=(BATCH, *space)).astype(np.int32)
    peers = {"monai": "monai", "batchgeneratorsv2": "nnunet"}
    try:
        if args.worker in peers:
            module = importlib.import_module(f"benchmarks.augment_peers.{peers[args.worker]}")
            steps = module.steps(image, label)
        else:
            steps = jaxmedgen_steps(image, label)
    except ImportError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    print(json.dumps({"transforms": list(steps)}), flush=True)
    for line in sys.stdin:
        name = line.strip()
        # Which transforms a peer skips is chance: many calls even it out.
        calls = args.calls * (6 if name == "classic" else 1)
        start = time.perf_counter()
        for _ in range(calls):
            steps[name]()
        print((time.perf_counter() - start) / calls, flush=True)


def report(results: dict[str, dict[str, float]], names: list[str]) -> None:
    """Prints a table of samples a second and the ratio to each peer."""
    print("samples/s".ljust(16) + "".join(name.rjust(26) for name in names))
    for transform, rates in results.items():
        line = transform.ljust(16)
        for name in names:
            if name not in rates:
                line += "-".rjust(26)
            elif name == names[0]:
                line += f"{rates[name]:26.0f}"
            else:
                line += f"{rates[name]:16.1f} ({rates[names[0]] / rates[name]:6.1f}x)"
        print(line)


def jaxmedgen_steps(image: np.ndarray, label: np.ndarray) -> dict[str, Step]:
    """Our policy and single transforms, compiled."""
    import dataclasses

    import jax

    from jaxmedgen.augment.cutout import Cutout
    from jaxmedgen.augment.draws import Draw
    from jaxmedgen.augment.intensity import Intensity
    from jaxmedgen.augment.mixing import Cutmix, Mixing, Mixup
    from jaxmedgen.augment.policy import Augmentation
    from jaxmedgen.augment.presets import preset
    from jaxmedgen.augment.spatial import Spatial

    spacing = (1.0, 1.0, 1.0)
    classic = preset("classic", spacing)
    policies = {
        "classic": classic,
        "affine": Augmentation(
            Spatial(spacing=spacing, rotation=Draw(-30, 30), scale=Draw(0.7, 1.4))
        ),
        "deformation": Augmentation(Spatial(spacing=spacing, deformation=Draw(1, 4))),
        "bias": Augmentation(None, Intensity(bias=Draw(-0.5, 0.5))),
        "elastic": Augmentation(Spatial(spacing=spacing, elastic=Draw(7.5, 7.5))),
        "elastic_noise": Augmentation(Spatial(spacing=spacing, elastic_noise=Draw(100, 900))),
        "geodesic": Augmentation(Spatial(spacing=spacing, geodesic=Draw(1, 4))),
        "cutout": Augmentation(cutout=Cutout(p=1.0)),
        "mixup": Augmentation(mixing=Mixing(mixup=Mixup(p=1.0), classes=4)),
        "cutmix": Augmentation(mixing=Mixing(cutmix=Cutmix(p=1.0))),
    }
    for name in ("noise", "blur", "brightness", "contrast", "low_resolution", "gamma"):
        always = dataclasses.replace(getattr(classic.intensity, name), p=1.0, p_channel=1.0)
        policies[name] = Augmentation(None, Intensity(**{name: always}))
    image, label = jax.device_put((image, label))

    def step(name: str, policy: Augmentation) -> Step:
        start = time.perf_counter()
        keys = jax.random.split(jax.random.key(0), BATCH)
        run = jax.jit(policy).lower(keys, image, label).compile()
        seconds = time.perf_counter() - start
        print(f"jaxmedgen {name}: compiled in {seconds:.1f} s", file=sys.stderr)
        count = iter(range(10**9))
        # Keys of all calls beforehand: splitting them is the training step's work.
        many = [jax.random.split(jax.random.key(i), BATCH) for i in range(64)]
        return lambda: jax.block_until_ready(run(many[next(count) % 64], image, label))

    return {name: step(name, policy) for name, policy in policies.items()}


if __name__ == "__main__":
    main()
