"""A group U-Net's training step against a plain U-Net's with as many feature channels.

    python benchmarks/group_unet_step.py --size 32 --rounds 5

The multiply-adds of the convolutions are equal but for the first and the last one, so what a group
costs more is the expansion of its kernels. Forward, Dice + cross-entropy + penalty, backward, Adam;
float32, depth 2. Both sides are this library's, in one process, and take turns; the median over the
rounds of the ratio of neighbours is what counts (aim: 1.25 at most). Prints a line for each group
and one of JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmedgen.losses.kernel_penalty import kernel_penalty
from jaxmedgen.losses.segmentation import dice_ce_loss
from jaxmedgen.nets.group_unet import GroupUNet3D
from jaxmedgen.ops.groups import point_group

FILTERS = {"C4": 6, "O": 1}
CLASSES, DEPTH = 3, 2


def main() -> None:
    """Measures every group."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32, help="edge of the volume")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="steps a round")
    args = parser.parse_args()
    results = []
    for name, filters in FILTERS.items():
        r = compare(name, filters, args)
        results.append(r)
        print(
            f"{r['group']}, {r['features']} feature channels, {args.batch} x {args.size}^3: group "
            f"{r['group_s']:.3f} s, plain {r['plain_s']:.3f} s a step; {r['ratio']:.2f}x "
            f"(compiled in {r['group_compile_s']:.0f} and {r['plain_compile_s']:.0f} s)",
            flush=True,
        )
    print(json.dumps({"benchmark": "group_unet_step", "results": results}))


def compare(name: str, filters: int, args: argparse.Namespace) -> dict[str, float | int | str]:
    """Both sides of one group, in turn."""
    group = point_group(name)
    sides = {"group": (group, filters), "plain": (point_group("trivial"), filters * group.order)}
    steps, compiled, times = {}, {}, {side: [] for side in sides}
    for side, (acting, width) in sides.items():
        start = time.perf_counter()
        steps[side] = training_step(acting, width, args)
        steps[side]()
        compiled[side] = time.perf_counter() - start
    for _ in range(args.rounds):
        for side, step in steps.items():
            start = time.perf_counter()
            for _ in range(args.steps):
                step()
            times[side].append((time.perf_counter() - start) / args.steps)
    return {
        "group": name,
        "features": filters * group.order,
        "group_s": statistics.median(times["group"]),
        "plain_s": statistics.median(times["plain"]),
        "ratio": statistics.median(g / p for g, p in zip(times["group"], times["plain"])),
        "group_compile_s": compiled["group"],
        "plain_compile_s": compiled["plain"],
    }


def training_step(group, filters: int, args: argparse.Namespace) -> Callable[[], float]:
    """A step of a network of its own; waits for the loss."""
    shape = (args.size,) * 3
    net = GroupUNet3D(group, CLASSES, 1, shape, filters=filters, depth=DEPTH, dropout=0.0)
    rng, adam = np.random.default_rng(0), optax.adam(1e-3)
    image = jnp.asarray(rng.normal(size=(args.batch, *shape, 1)), jnp.float32)
    label = jnp.asarray(rng.integers(0, CLASSES, (args.batch, *shape)), jnp.int32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), image[:1])["params"]
    params = jax.tree.map(lambda s: jnp.asarray(0.1 * rng.normal(size=s.shape), s.dtype), shapes)

    def update(state, image, label):
        params, moments = state

        def loss(params):
            logits = net.apply({"params": params}, image, True, method="logits")
            return 0.5 * dice_ce_loss(logits, label, batch=True) + kernel_penalty(params, 1e-6)

        value, grads = jax.value_and_grad(loss)(params)
        updates, moments = adam.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    compiled = jax.jit(update, donate_argnums=0)
    state = [(params, adam.init(params))]

    def step() -> float:
        state[0], value = compiled(state[0], image, label)
        return value.item()

    return step


if __name__ == "__main__":
    main()
