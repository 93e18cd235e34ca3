"""A whole 3D U-Net training step: ours against MONAI's DynUNet, same layers, same machine, one run.

    pip install -e '.[bench]'
    python -m benchmarks.unet_step --size 48 64 --rounds 5

Forward, Dice + cross-entropy, backward, Adam; batch 2, features 16-32-64-128, float32. Each side
has a process of its own with the same number of threads; they take turns, the one at work while the
other waits, and the medians over the rounds are compared. Before any timing both compute logits
from the same weights, which must agree. Prints a line for each size and one of JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.timing.turns import serve_turns, take_turns

FEATURES = (16, 32, 64, 128)
BATCH = 2


def main() -> None:
    """Runs both sides in turn and prints the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs="+", default=[48, 64], help="edge of the volume")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="steps a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--worker", choices=["jaxmedgen", "monai"], help=argparse.SUPPRESS)
    parser.add_argument("--exchange", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        serve(args)
        return
    results = []
    for size in args.size:
        result = compare(size, args)
        results.append(result)
        print(
            f"{size}^3: jaxmedgen {result['jaxmedgen_s']:.3f} s, monai {result['monai_s']:.3f} s a "
            f"step; {result['speed_ratio']:.2f}x of MONAI's speed "
            f"(logits differ by {result['logit_difference']:.1e})"
        )
    print(json.dumps({"benchmark": "unet_step", "threads": args.threads, "results": results}))


def compare(size: int, args: argparse.Namespace) -> dict[str, float]:
    """Medians of both sides at one size."""
    with tempfile.TemporaryDirectory() as folder:
        commands = {}
        for name in ("jaxmedgen", "monai"):  # in this order: the first writes the weights
            command = [
                sys.executable,
                "-m",
                "benchmarks.unet_step",
                "--worker",
                name,
                "--size",
                str(size),
            ]
            command += ["--threads", str(args.threads), "--steps", str(args.steps)]
            commands[name] = [*command, "--exchange", f"{folder}/exchange.npz"]
        ready, times = take_turns(commands, args.rounds)
    ours, theirs = (statistics.median(times[name]) for name in ("jaxmedgen", "monai"))
    return {
        "size": size,
        "jaxmedgen_s": ours,
        "monai_s": theirs,
        "speed_ratio": theirs / ours,
        "logit_difference": ready["logit_difference"],
        "jaxmedgen_rounds_s": times["jaxmedgen"],
        "monai_rounds_s": times["monai"],
    }


def serve(args: argparse.Namespace) -> None:
    """One side: builds the step, then times it whenever asked to on standard input."""
    rng = np.random.default_rng(0)
    space = (args.size[0],) * 3
    image = rng.normal(size=(BATCH, *space, 1)).astype(np.float32)
    label = rng.integers(0, 2, size=(BATCH, *space)).astype(np.int32)
    build = jaxmedgen_step if args.worker == "jaxmedgen" else monai_step
    step, difference = build(image, label, args)
    serve_turns(step, args.steps, {"logit_difference": difference})


def jaxmedgen_step(
    image: np.ndarray, label: np.ndarray, args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """Our step, and the weights and logits written for the other side."""
    import jax
    import optax
    from flax.traverse_util import flatten_dict

    from jaxmedgen.losses.segmentation import dice_ce_loss
    from jaxmedgen.nets.unet import UNet

    net, adam = UNet(features=FEATURES), optax.adam(1e-3)
    params = jax.jit(net.init)(jax.random.key(0), image)["params"]
    logits = jax.jit(net.apply)({"params": params}, image)
    flat = {"/".join(k): np.asarray(v) for k, v in flatten_dict(params).items()}
    np.savez(args.exchange, logits=logits, **flat)

    def update(state, image, label):
        params, moments = state

        def loss(params):
            return dice_ce_loss(net.apply({"params": params}, image, train=True), label)

        value, grads = jax.value_and_grad(loss)(params)
        updates, moments = adam.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    compiled = jax.jit(update, donate_argnums=0)
    state = [(params, adam.init(params))]
    image, label = jax.device_put((image, label))

    def step():
        state[0], value = compiled(state[0], image, label)
        return value.item()

    return step, 0.0


def monai_step(
    image: np.ndarray, label: np.ndarray, args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """The same step in PyTorch; all axes are flipped, see `_load`."""
    import torch
    from monai.losses import DiceCELoss
    from monai.networks.nets import DynUNet

    torch.set_num_threads(args.threads)
    levels = len(FEATURES)
    net = DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=FEATURES,
        norm_name=("INSTANCE", {"affine": True}),
    )
    x = torch.tensor(np.moveaxis(image, -1, 1)).flip((2, 3, 4)).contiguous()
    y = torch.tensor(label)[:, None].flip((2, 3, 4)).contiguous()
    with np.load(args.exchange) as weights:
        _load(net, weights)
        expected = np.moveaxis(weights["logits"], -1, 1)
    with torch.no_grad():
        difference = float(np.abs(net(x).flip((2, 3, 4)).numpy() - expected).max())
    if difference > 1e-3:
        raise SystemExit(f"logits of the same weights differ by {difference}: not the same network")
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step():
        adam.zero_grad(set_to_none=True)
        value = loss(net(x), y)
        value.backward()
        adam.step()
        return value.item()

    return step, difference


def _load(net, weights) -> None:
    """Our weights into DynUNet, mirrored along all axes.

    A strided convolution pads an even axis after it here and before it in PyTorch: mirrored images
    and kernels make that the same.
    """
    import torch

    levels = len(FEATURES)
    encoders = ["input_block", *(f"downsamples.{i}" for i in range(levels - 2)), "bottleneck"]
    names = {f"encoder_{i}": name for i, name in enumerate(encoders)}
    names |= {f"decoder_{i}": f"upsamples.{levels - 2 - i}.conv_block" for i in range(levels - 1)}
    state = {}
    for ours, theirs in names.items():
        for i in range(2):
            state[f"{theirs}.conv{i + 1}.conv.weight"] = weights[f"{ours}/Conv_{i}/kernel"]
            state[f"{theirs}.norm{i + 1}.weight"] = weights[f"{ours}/Norm_{i}/scale"]
            state[f"{theirs}.norm{i + 1}.bias"] = weights[f"{ours}/Norm_{i}/bias"]
    for i in range(levels - 1):
        name = f"upsamples.{levels - 2 - i}.transp_conv.conv.weight"
        state[name] = np.swapaxes(weights[f"up_{i}/kernel"], -1, -2)
    state["output_block.conv.conv.weight"] = weights["head_0/kernel"]
    state["output_block.conv.conv.bias"] = weights["head_0/bias"]
    for name, value in state.items():
        if value.ndim == 5:
            value = value[::-1, ::-1, ::-1].transpose(4, 3, 0, 1, 2)
        state[name] = torch.tensor(np.ascontiguousarray(value))
    # DynUNet lists each layer again under skip_layers; the logits show that none is missing.
    net.load_state_dict(state, strict=False)


if __name__ == "__main__":
    main()
