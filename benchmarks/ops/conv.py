"""3D convolution, forward and both gradients, against PyTorch (oneDNN) and plain `lax`.

One case is a layer's whole work in a training step: the output, the gradient in the input and the
gradient in the kernel, float32. Without ``--quick`` each layer is also measured against plain
``lax.conv_general_dilated``, whose strided gradients take seconds.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ops.case import Case, waiting
from jaxmedgen.ops.conv import conv

# batch, edge of the input, input channels, output channels, taps, stride
LAYERS = (
    (2, 16, 64, 64, 3, 1),
    (2, 16, 64, 128, 3, 2),
    (2, 24, 32, 32, 3, 1),
    (2, 24, 64, 32, 3, 1),
    (2, 24, 32, 64, 3, 2),
    (2, 32, 32, 32, 3, 1),
    (2, 32, 32, 32, 5, 1),
    (2, 48, 16, 16, 3, 1),
    (2, 48, 16, 32, 3, 2),
    (1, 64, 16, 16, 3, 1),
    (1, 64, 1, 16, 3, 1),
    (1, 96, 8, 8, 3, 1),
)


def cases(*, quick: bool, peers: bool) -> Iterator[Case]:
    """Twelve layers of networks for volumes."""
    for layer in LAYERS:
        x, kernel, g = _arrays(layer)
        ours = waiting(jax.jit(_step(layer, "auto")), x, kernel, g)
        work = {"flops": 6.0 * kernel.size * g[..., 0].size}
        yield Case(
            f"conv {_name(layer)} forward+backward",
            ours,
            _torch_step(layer, x, kernel, g) if peers else None,
            "torch",
            **work,
        )
        if peers and not quick:
            plain = waiting(jax.jit(_step(layer, "xla")), x, kernel, g)
            yield Case(f"conv {_name(layer)} against lax", ours, plain, "lax", **work)


def _name(layer) -> str:
    _, size, ci, co, taps, stride = layer
    return f"{size}^3 {ci}->{co} k{taps} s{stride}"


def _arrays(layer) -> tuple[jax.Array, jax.Array, jax.Array]:
    batch, size, ci, co, taps, stride = layer
    rng = np.random.default_rng(0)
    out = -(-size // stride)
    shapes = (batch, *(size,) * 3, ci), (*(taps,) * 3, ci, co), (batch, *(out,) * 3, co)
    return tuple(jnp.asarray(rng.normal(size=shape).astype(np.float32)) for shape in shapes)


def _step(layer, backend: str) -> Callable:
    def step(x, kernel, g):
        y, back = jax.vjp(lambda x, k: conv(x, k, stride=layer[-1], backend=backend), x, kernel)
        return y, *back(g)

    return step


def _torch_step(layer, x, kernel, g) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    taps, stride = layer[-2:]
    x, g = (
        torch.tensor(np.ascontiguousarray(np.moveaxis(a, -1, 1))) for a in map(np.asarray, (x, g))
    )
    w = torch.tensor(np.asarray(kernel).transpose(4, 3, 0, 1, 2).copy())
    settings = ([stride] * 3, [taps // 2] * 3, [1] * 3, False, [0] * 3, 1)

    def step():
        y = torch.ops.aten.convolution(x, w, None, *settings)
        return y, torch.ops.aten.convolution_backward(g, x, w, None, *settings, [True, True, False])

    return step
