"""What a family of operator benchmarks yields, how it is timed, and the machine's peaks."""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Run = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """One operation on one size, by us and by a peer.

    Attributes:
        name: begins with conv, resample, exp, shoot, group or radon.
        ours: does the work once and waits for the result.
        peer: the same by the peer; None where only ours is wanted.
        peer_name: whose it is.
        flops: floating-point operations that the definition asks for, 0 if it is not about them.
        traffic: bytes that must be read and written at least once, 0 if it is not about them.
    """

    name: str
    ours: Run
    peer: Run | None = None
    peer_name: str = ""
    flops: float = 0.0
    traffic: float = 0.0


def waiting(function: Callable, *arguments: Any) -> Run:
    """A call of a jitted `function` that waits for its result."""
    return lambda: jax.block_until_ready(function(*arguments))


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Medians of both sides in seconds, the sides taking turns; ratio is peer / ours."""
    sides = {"ours": case.ours} | ({"peer": case.peer} if case.peer else {})
    times: dict[str, list[float]] = {side: [] for side in sides}
    for run in sides.values():
        run()  # compiles
    for _ in range(rounds):
        for side, run in sides.items():
            start = time.perf_counter()
            run()
            times[side].append(time.perf_counter() - start)
    ours = statistics.median(times["ours"])
    line: dict[str, Any] = {"name": case.name, "ours_s": ours}
    if case.peer:
        peer = statistics.median(times["peer"])
        line |= {"peer": case.peer_name, "peer_s": peer, "ratio": peer / ours}
    if case.flops:
        line["gflops"] = case.flops / ours / 1e9
    if case.traffic:
        line["gbytes"] = case.traffic / ours / 1e9
    return line


def peaks() -> dict[str, float]:
    """Measured peaks: GFLOP/s of a float32 matrix product and GB/s of a copy."""
    n = 2048
    a = jnp.asarray(np.random.default_rng(0).normal(size=(n, n)).astype(np.float32))
    big = jnp.zeros(2**26, jnp.float32)  # 256 MB, beyond every cache
    product = Case("product", waiting(jax.jit(jnp.matmul), a, a), flops=2 * n**3)
    copy = Case("copy", waiting(jax.jit(lambda x: x + 1), big), traffic=2 * big.nbytes)
    return {
        "gflops": measure(product, 5)["gflops"],
        "gbytes": measure(copy, 5)["gbytes"],
        "cores": os.cpu_count() or 1,
    }
