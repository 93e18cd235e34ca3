"""Share of the augmentation in a U-Net's training step, and volumes it makes a second.

    python -m benchmarks.augment_share --size 64 --rounds 3

A step of the library's 3D U-Net (base 12, four levels below, float32, one channel) with a preset is
compared with the same step without augmentation; the aim is 10 % of the step at most. The
augmentation alone is timed as well: volumes a second. Ours alone, so that there is no peer. Steps
take turns within each round; medians over the rounds. Prints a table and a line of JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.configuration import load_config
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.systems.base import build_system
from jaxmedgen.train.step import make_step

FEATURES = "(12, 24, 48, 96, 192)"
PRESETS = ("nnunet3d", "nnunet_brats", "diffeo", "elastic", "mixup")
NONE = "none"
CLASSES = 4


def main() -> None:
    """Prints a table of all presets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="edge of the volume")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    args = parser.parse_args()
    names = [NONE, *args.presets]
    steps, alone = {}, {}
    for name in names:
        steps[name], alone[name] = both(name, args)
    times = {kind: {name: [] for name in names} for kind in ("step", "alone")}
    for _ in range(args.rounds):
        for name in names:
            for kind, runs in (("step", steps), ("alone", alone)):
                start = time.perf_counter()
                runs[name]()
                times[kind][name].append(time.perf_counter() - start)
    medians = {k: {n: statistics.median(t) for n, t in row.items()} for k, row in times.items()}
    print(f"batch {args.batch} of {args.size}^3; a step without augmentation takes "
          f"{medians['step'][NONE]:.3f} s\n")  # fmt: skip
    print("| preset | volumes/s | augmentation, s | step, s | share of the step |")
    print("|" + "---|" * 5)
    results = {}
    for name in args.presets:
        step, own = medians["step"][name], medians["alone"][name]
        results[name] = {"volumes_per_s": args.batch / own, "share": own / step, "step_s": step}
        print(f"| `{name}` | {args.batch / own:.1f} | {own:.3f} | {step:.3f} | {own / step:.1%} |")
    settings = {"size": args.size, "batch": args.batch, "plain_step_s": medians["step"][NONE]}
    print(json.dumps({"benchmark": "augment_share", **settings, "results": results}))


def both(name: str, args: argparse.Namespace) -> tuple[Callable[[], object], Callable[[], object]]:
    """A whole training step and the augmentation alone; each call waits for its results."""
    shape = (args.size,) * 3
    overrides = {"augment.preset": name, "net.features": FEATURES, "net.deep_supervision": "False"}
    config = load_config("unet:cpu,arm=none", overrides)
    classes = ("background", *(f"class {k}" for k in range(1, CLASSES)))
    system = build_system(config, DatasetInfo(classes, ("image",), (1.0, 1.0, 1.0), ()))
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.normal(size=(args.batch, *shape, 1)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, CLASSES, (args.batch, *shape)), jnp.int32),
        "index": jnp.arange(args.batch, dtype=jnp.int32),
        "case": jnp.arange(args.batch, dtype=jnp.int32),
    }
    update = make_step(system.objectives(), system.players(), prepare=system.prepare)
    state = [jax.jit(system.init)(jax.random.key(0), batch)]
    step = jax.jit(update, donate_argnums=0).lower(state[0], batch).compile()
    prepare = jax.jit(system.prepare)
    count = iter(range(10**9))

    def train() -> None:
        state[0], metrics = step(state[0], batch)
        jax.block_until_ready(metrics)

    def augment() -> None:
        keys = jax.random.split(jax.random.key(next(count)), args.batch)
        jax.block_until_ready(prepare(batch, keys))

    train(), augment()
    return train, augment


if __name__ == "__main__":
    main()
