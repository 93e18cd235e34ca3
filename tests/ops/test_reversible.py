import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.reversible import checkpointed_scan, reversible_scan

DT = 0.1


def leapfrog(state, dt=DT):
    """One step of a pendulum, which a step of -dt takes back exactly."""
    q, p = state
    q = q + dt / 2 * p
    p = p - dt * jnp.sin(q)
    return q + dt / 2 * p, p


def plain(state, length):
    for _ in range(length):
        state = leapfrog(state)
    return state


def gradient(run):
    start = jnp.asarray([0.5, 1.0]), jnp.asarray([0.2, -0.3])
    return jax.jit(jax.grad(lambda s: sum(jnp.sum(x**3) for x in run(s))))(start)


@pytest.mark.parametrize("length", [1, 7, 16, 17, 25])
def test_scans_have_the_gradient_of_the_plain_loop(length):
    undo = functools.partial(leapfrog, dt=-DT)
    with jax.enable_x64(True):
        expected = gradient(lambda s: plain(s, length))
        for scan in (
            lambda s: checkpointed_scan(leapfrog, s, length),
            lambda s: reversible_scan(leapfrog, undo, s, length),
        ):
            np.testing.assert_allclose(gradient(scan), expected, rtol=1e-12)
        assert float(jnp.abs(expected[0]).min()) > 0


def test_memory():
    """Bytes for the backward pass of many steps of a big state."""
    state = (jnp.zeros(10_000), jnp.zeros(10_000))
    undo = functools.partial(leapfrog, dt=-DT)

    def temporary(run):
        compiled = jax.jit(jax.grad(lambda s: jnp.sum(run(s)[0] ** 2))).lower(state).compile()
        return compiled.memory_analysis().temp_size_in_bytes / 80_000  # states

    few, many = (temporary(lambda s, n=n: reversible_scan(leapfrog, undo, s, n)) for n in (16, 400))
    assert many == pytest.approx(few, rel=0.02)
    # 20 segments of 20 steps, against 400 states.
    assert temporary(lambda s: checkpointed_scan(leapfrog, s, 400)) < 80
