"""What all Pallas kernels share: which platform to write for, and derivatives of any order.

A kernel is opaque to autodiff. Each gets its reverse rule by hand; where that rule calls a kernel
of its own, `with_reference_derivative` gives the rule's derivative in plain XLA, so that a gradient
of a gradient (penalties, samplers) works and costs what XLA makes of it.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax

from jaxmedgen.ops.kernels.platform import platform as current_platform

Platform = Literal["gpu", "tpu"]


def kernel_platform(platform: str | None) -> Platform:
    """The platform to write a kernel for: `platform`, or the default device's.

    Raises:
        ValueError: there is no kernel for that platform.
    """
    chosen = current_platform() if platform is None else platform
    if chosen not in ("gpu", "tpu"):
        raise ValueError(
            f"platform {chosen!r} has no Pallas kernels: use the plain XLA form, or say "
            "platform='gpu' or 'tpu' (with interpret=True to run it on this machine)"
        )
    return chosen


def check_addresses(x: jax.Array) -> None:
    """Raises ValueError where a sample of `x` has more numbers than kernels can count (int32)."""
    if math.prod(x.shape[1:]) >= 2**31:
        raise ValueError(
            f"array {x.shape} has 2^31 numbers or more a sample, which Pallas kernels cannot "
            "address: use the plain XLA form or smaller patches"
        )


def next_power_of_two(count: int) -> int:
    """Smallest power of two that is at least `count`."""
    return 1 << max(count - 1, 0).bit_length()


def with_reference_derivative(
    fast: Callable[..., Any], reference: Callable[..., Any]
) -> Callable[..., Any]:
    """`fast` with the reverse-mode derivative of `reference`, which computes the same thing.

    Args:
        fast: a function of arrays (or None) that autodiff cannot see into.
        reference: the same function in plain XLA.
    """

    @jax.custom_vjp
    def call(*arrays):
        return fast(*arrays)

    def forward(*arrays):
        return fast(*arrays), arrays

    def backward(arrays, cotangent):
        return jax.vjp(reference, *arrays)[1](cotangent)

    call.defvjp(forward, backward)
    return call
