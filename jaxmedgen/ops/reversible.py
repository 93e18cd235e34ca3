"""Repeated steps whose reverse-mode gradient needs no stored states.

Source: Zhuang et al., "MALI: a memory efficient and reverse accurate integrator", 2021, among
others: the states are recomputed backwards instead of kept.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax

State = Any

# Below, the states of all steps take less memory than the inside of one step.
SEGMENT_FROM = 16


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 3))
def reversible_scan(
    step: Callable[[State], State], undo: Callable[[State], State], state: State, length: int
) -> State:
    """``step(step(...state))``, `length` times, with memory for one state in reverse mode.

    The backward pass recomputes each state by `undo` and applies the exact transpose of `step`
    there; the gradient is as accurate as the recomputed states. Reverse mode only, once.

    Args:
        step: one step; must close over static values only.
        undo: its inverse, or a good approximation.
        state: a tree of arrays.
        length: number of steps.
    """
    return jax.lax.scan(lambda y, _: (step(y), None), state, None, length=length)[0]


def _forward(step, undo, state, length):
    last = reversible_scan(step, undo, state, length)
    return last, last


def _backward(step, undo, length, last, cotangent):
    def back(carry, _):
        state, cotangent = carry
        state = undo(state)
        (cotangent,) = jax.vjp(step, state)[1](cotangent)
        return (state, cotangent), None

    (_, cotangent), _ = jax.lax.scan(back, (last, cotangent), None, length=length)
    return (cotangent,)


reversible_scan.defvjp(_forward, _backward)


def checkpointed_scan(step: Callable[[State], State], state: State, length: int) -> State:
    """``step(step(...state))`` that keeps few states for reverse mode.

    Up to `SEGMENT_FROM` steps, the state before each step is kept; beyond, the steps run in
    segments of ``ceil(sqrt(length))`` and about ``2 sqrt(length)`` states are kept. What happens
    within a step is computed again.

    Args:
        step: one step.
        state: a tree of arrays.
        length: number of steps.
    """

    def run(state, count):
        return jax.lax.scan(lambda y, _: (jax.checkpoint(step)(y), None), state, None, count)[0]

    if length <= SEGMENT_FROM:
        return run(state, length)
    inner = math.ceil(math.sqrt(length))
    whole, rest = divmod(length, inner)
    segment = jax.checkpoint(functools.partial(run, count=inner))
    state = jax.lax.scan(lambda y, _: (segment(y), None), state, None, whole)[0]
    return run(state, rest) if rest else state
