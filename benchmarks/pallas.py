"""Pallas kernels against the plain XLA forms they stand for, on the GPU or TPU at hand.

    python -m benchmarks.pallas                  # on a GPU or TPU
    python -m benchmarks.pallas --interpret gpu  # tiny sizes on any machine: that it runs, no times

Prints the largest difference relative to the largest value, the median times and XLA / Pallas.
"""

import argparse
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ops.case import Case, measure, waiting
from jaxmedgen.ops import transport
from jaxmedgen.ops.kernels.ad_pallas import ad_star_pallas
from jaxmedgen.ops.kernels.conv_pallas import conv3d_pallas, conv3d_reference
from jaxmedgen.ops.kernels.pallas_support import kernel_platform
from jaxmedgen.ops.kernels.resample_bounded import resample_bounded_pallas
from jaxmedgen.ops.kernels.resample_pallas import sample_pallas
from jaxmedgen.ops.kernels.resample_xla import sample_xla
from jaxmedgen.ops.kernels.transport_pallas import forward_step_pallas, inverse_step_pallas
from jaxmedgen.ops.lie_algebra import ad_star_planes


class Pair(NamedTuple):
    """One computation in both forms."""

    name: str
    pallas: Callable[..., Any]
    xla: Callable[..., Any]
    arguments: tuple[jax.Array, ...]


def main() -> None:
    """Compares all pairs and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--interpret", choices=("gpu", "tpu"))
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    platform = kernel_platform(options.interpret)
    print(jax.devices()[0].device_kind)
    for pair in pairs(platform, interpret=options.interpret is not None):
        pallas, xla = jax.jit(pair.pallas), jax.jit(pair.xla)
        ours, expected = (jax.tree.leaves(f(*pair.arguments)) for f in (pallas, xla))
        error = max(float(_difference(a, b)) for a, b in zip(ours, expected))
        row = f"{pair.name:<44} error {error:.1e}"
        if not options.interpret:
            runs = waiting(pallas, *pair.arguments), waiting(xla, *pair.arguments)
            line = measure(Case(pair.name, *runs, peer_name="xla"), options.rounds)
            times = f"{1e3 * line['ours_s']:9.3f} ms {1e3 * line['peer_s']:9.3f} ms"
            row += f"  {times}  {line['ratio']:.2f}x"
        print(row, flush=True)


def pairs(platform: str, *, interpret: bool) -> Iterator[Pair]:
    """All kernels of a platform at sizes that matter, or at tiny ones to interpret."""
    run = {"platform": platform, "interpret": interpret}
    for size, channels in [(6, 8)] if interpret else [(128, 8), (96, 16), (96, 32)]:
        for dtype in (jnp.float32, jnp.bfloat16):
            yield from _convolutions(size, channels, dtype, run)
    size = 6 if interpret else 128
    v, m = _draw((1, 3, size, size, size), 2)
    yield _with_gradient("ad*", functools.partial(ad_star_pallas, **run), ad_star_planes, (v, m))
    u, v = _draw((1, size, size, size, 3), 2)
    for name, ours, reference in (
        ("forward step", forward_step_pallas, transport.forward_step),
        ("inverse step", inverse_step_pallas, transport.inverse_step),
    ):
        ours, reference = (functools.partial(f, dt=0.5) for f in (ours, reference))
        yield _with_gradient(name, functools.partial(ours, **run), reference, (u, v))
    grid = jnp.moveaxis(jnp.asarray(np.indices((size,) * 3), jnp.float32), 0, -1)
    for channels in (1, 8):
        (image,) = _draw((1, size, size, size, channels), 1)

        def gather(image, u):
            return sample_xla(image, (grid + u).reshape(1, -1, 3), order=1, mode="border")

        def fused(image, u):
            if platform == "gpu":
                return sample_pallas(image, (grid + u).reshape(1, -1, 3), **run)
            return resample_bounded_pallas(image, u, 1, **run).reshape(1, -1, image.shape[-1])

        yield _with_gradient(f"linear warp {size}^3 c{channels}", fused, gather, (image, u))


def _convolutions(size, channels, dtype, run):
    (x,) = _draw((2, size, size, size, channels), 1, dtype)
    (kernel,) = _draw((3, 3, 3, channels, channels), 1, dtype)
    (scale,) = _draw((2, channels), 1)
    what = f"{size}^3 c{channels} {jnp.dtype(dtype).name}"

    def lax_form(x, kernel):
        # As a network calls it: in the dtype of the input, sums left to XLA.
        numbers = ("NDHWC", "DHWIO", "NDHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1, 1), "SAME", dimension_numbers=numbers)

    yield Pair(f"conv {what}", functools.partial(conv3d_pallas, **run), lax_form, (x, kernel))
    fused = {"slope": 0.01, "statistics": True}
    ours = functools.partial(conv3d_pallas, **fused, **run)
    reference = functools.partial(conv3d_reference, **fused)
    yield Pair(
        f"conv, norm, activation, moments {what}",
        lambda x, k, s: ours(x, k, scale=s, shift=s),
        lambda x, k, s: reference(x, k, scale=s, shift=s),
        (x, kernel, scale),
    )


def _with_gradient(name, ours, reference, arguments):
    """Value and gradients of the sum of squares, which runs the backward kernels too."""

    def both(f):
        return lambda *a: (
            f(*a),
            jax.grad(lambda *b: jnp.sum(f(*b) ** 2), tuple(range(len(a))))(*a),
        )

    return Pair(name, both(ours), both(reference), arguments)


def _draw(shape, count, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.uniform(-1, 1, size=shape), dtype) for _ in range(count)]


def _difference(a, b):
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))


if __name__ == "__main__":
    main()
