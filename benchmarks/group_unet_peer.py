"""An octahedral U-Net's training step: ours against escnn's R3Conv in PyTorch.

    python -m benchmarks.group_unet_peer --size 16 --rounds 3 --threads 1 --peer peer/bin/python

Depth 2, 3^3 kernels, batch norm, Dice + cross-entropy + Adam, float32; as many fields on each level
on both sides, hence the same convolutions once kernels are expanded. The weights are not the same:
escnn's kernels are sums of basis functions. What an interpreter for the peer needs is in
`benchmarks/group_peers/torch_escnn.py`. Sides take turns; medians over the rounds. Prints a line
and one of JSON.
"""

import argparse
import json
import os
import statistics
import sys

from benchmarks.timing.turns import serve_turns, take_turns

CLASSES, DEPTH = 3, 2


def main() -> None:
    """Runs both sides in turn, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=16, help="edge of the volume")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--filters", type=int, default=1, help="fields of the first level")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peer", default=sys.executable, help="Python that has torch and escnn")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
        step, parameters = training_step(args)
        serve_turns(step, 1, {"parameters": parameters})
        return
    words = [
        w for n in ("size", "batch", "filters", "threads") for w in (f"--{n}", getattr(args, n))
    ]
    words = [str(word) for word in words]
    own = [sys.executable, "-m", "benchmarks.group_unet_peer", "--worker"]
    peer = [args.peer, "-m", "benchmarks.group_peers.torch_escnn"]
    ready, times = take_turns({"jaxmedgen": [*own, *words], "escnn": [*peer, *words]}, args.rounds)
    ours, theirs = (statistics.median(times[side]) for side in ("jaxmedgen", "escnn"))
    print(
        f"octahedral U-Net, {24 * args.filters} feature channels, {args.batch} x {args.size}^3: "
        f"jaxmedgen {ours:.3f} s, escnn {theirs:.3f} s a step ({ready['parameters']:,} "
        f"parameters); {theirs / ours:.2f}x of its speed"
    )
    result = {"jaxmedgen_s": ours, "escnn_s": theirs, "ratio": theirs / ours, "rounds_s": times}
    settings = {name: getattr(args, name) for name in ("size", "batch", "filters", "threads")}
    print(json.dumps({"benchmark": "group_unet_peer", **settings, **result}))


def training_step(args):
    """Our step and the number of its parameters."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from jaxmedgen.losses.segmentation import dice_ce_loss
    from jaxmedgen.nets.group_unet import GroupUNet3D
    from jaxmedgen.ops.groups import point_group

    shape, rng, adam = (args.size,) * 3, np.random.default_rng(0), optax.adam(1e-3)
    settings = {"filters": args.filters, "depth": DEPTH, "dropout": 0.0, "norm": "batch"}
    net = GroupUNet3D(point_group("O"), CLASSES, 1, shape, **settings)
    image = jnp.asarray(rng.normal(size=(args.batch, *shape, 1)), jnp.float32)
    label = jnp.asarray(rng.integers(0, CLASSES, (args.batch, *shape)), jnp.int32)
    variables = jax.jit(net.init)(jax.random.key(0), image[:1])
    params, statistics_ = variables["params"], variables["batch_stats"]

    def update(state, image, label):
        params, moments, running = state

        def loss(params):
            given = {"params": params, "batch_stats": running}
            logits, new = net.apply(given, image, True, method="logits", mutable=["batch_stats"])
            return dice_ce_loss(logits, label, batch=True), new["batch_stats"]

        (value, running), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = adam.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments, running), value

    compiled = jax.jit(update, donate_argnums=0)
    state = [(params, adam.init(params), statistics_)]

    def step() -> float:
        state[0], value = compiled(state[0], image, label)
        return value.item()

    return step, sum(leaf.size for leaf in jax.tree.leaves(params))


if __name__ == "__main__":
    main()
