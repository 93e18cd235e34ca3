"""3D convolution on the CPU, layer by layer: ours against plain `lax` and PyTorch.

    pip install -e '.[bench]'
    python benchmarks/conv.py

The layers of a U-Net with features 16-32-64-128 on 48^3, batch 2, float32: forward pass, gradient
in the input (dx), gradient in the kernel (dw), in GFLOP/s of the convolution's own arithmetic
(2 x taps x ci x co x output voxels, whatever a formulation spends). The sides take turns in one
process; medians over the rounds. Ends with a line of JSON.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxmedgen.ops.conv import conv

BATCH = 2
# (edge of the input, input channels, output channels, taps, stride)
LAYERS = (
    (48, 1, 16, 3, 1),
    (48, 16, 16, 3, 1),
    (48, 32, 16, 3, 1),
    (48, 16, 32, 3, 2),
    (24, 32, 32, 3, 1),
    (24, 64, 32, 3, 1),
    (24, 32, 64, 3, 2),
    (12, 64, 64, 3, 1),
    (12, 128, 64, 3, 1),
    (6, 128, 128, 3, 1),
    (48, 16, 2, 1, 1),
)

Run = Callable[[], Any]


def main() -> None:
    """Times every layer and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{'GFLOP/s':<26}" + "".join(f"{p + ' ' + s:>14}" for p in PASSES for s in SIDES))
    results = []
    for layer in LAYERS:
        size, ci, co, taps, stride = layer
        rng = np.random.default_rng(0)
        out = -(-size // stride)
        x = rng.normal(size=(BATCH, size, size, size, ci)).astype(np.float32)
        k = rng.normal(size=(taps, taps, taps, ci, co)).astype(np.float32)
        g = rng.normal(size=(BATCH, out, out, out, co)).astype(np.float32)
        runs = {
            "ours": jax_runs(x, k, g, stride, "stacked"),
            "lax": jax_runs(x, k, g, stride, "xla"),
            "torch": torch_runs(x, k, g, stride),
        }
        work = 2 * taps**3 * ci * co * BATCH * out**3
        row = {"layer": layer}
        times = {(p, s): [] for p in PASSES for s in SIDES}
        for _ in range(args.rounds):
            for p, s in times:
                times[p, s].append(seconds(runs[s][p]))
        for p, s in times:
            row[f"{p}_{s}"] = work / statistics.median(times[p, s]) / 1e9
        results.append(row)
        name = f"{size}^3 {ci}->{co} k{taps} s{stride}"
        rates = [row[f"{p}_{s}"] for p in PASSES for s in SIDES]
        print(f"{name:<26}" + "".join(f"{r:>14.1f}" for r in rates), flush=True)
    print(json.dumps({"benchmark": "conv", "threads": args.threads, "gflops": results}))


PASSES = ("forward", "dx", "dw")
SIDES = ("ours", "lax", "torch")


def seconds(run: Run) -> float:
    """One run's time, after one to warm up."""
    run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def jax_runs(x: np.ndarray, k: np.ndarray, g: np.ndarray, stride: int, backend: str) -> dict:
    """The three passes by our door."""
    x, k, g = jnp.asarray(x), jnp.asarray(k), jnp.asarray(g)

    def forward(x, k):
        return conv(x, k, stride=stride, backend=backend)

    def dx(x, k, g):
        return jax.vjp(lambda x: forward(x, k), x)[1](g)

    def dw(x, k, g):
        return jax.vjp(lambda k: forward(x, k), k)[1](g)

    forward_, dx_, dw_ = jax.jit(forward), jax.jit(dx), jax.jit(dw)
    return {
        "forward": lambda: jax.block_until_ready(forward_(x, k)),
        "dx": lambda: jax.block_until_ready(dx_(x, k, g)),
        "dw": lambda: jax.block_until_ready(dw_(x, k, g)),
    }


def torch_runs(x: np.ndarray, k: np.ndarray, g: np.ndarray, stride: int) -> dict:
    """The three passes in PyTorch (oneDNN), in its own memory layout."""
    x, g = (torch.tensor(np.ascontiguousarray(np.moveaxis(a, -1, 1))) for a in (x, g))
    w = torch.tensor(np.ascontiguousarray(k.transpose(4, 3, 0, 1, 2)))
    settings = ([stride] * 3, [(k.shape[0] - 1) // 2] * 3, [1] * 3, False, [0] * 3, 1)

    def backward(mask):
        return lambda: torch.ops.aten.convolution_backward(g, x, w, None, *settings, mask)

    return {
        "forward": lambda: torch.ops.aten.convolution(x, w, None, *settings),
        "dx": backward([True, False, False]),
        "dw": backward([False, True, False]),
    }


if __name__ == "__main__":
    main()
