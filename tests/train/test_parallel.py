"""Parity of one device, meshes and pmap, with a two-player system."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.train.parallel import Parallel, ParallelSettings
from jaxmedgen.train.step import make_step
from tests.train.toys import Regression, TinyGan, stream

LAYOUTS = {
    "eight data": ParallelSettings(data=8),
    "four data, two space": ParallelSettings(data=4, space=2),
    "eight pmap": ParallelSettings(backend="pmap", data=8),
}


_FIRST = []


def first_state(system, example):
    """A system's initial state; of the system asked for last it is not compiled again."""
    if not (_FIRST and _FIRST[0] is system):
        _FIRST[:] = system, jax.jit(system.init)(jax.random.key(0), example)
    return _FIRST[1]


def run(system, settings, steps=20, accumulate=1, make_stream=lambda: stream(8, count=24)):
    """Metrics of each step and the final state."""
    parallel = Parallel(settings)
    batches = make_stream()
    state = parallel.replicate(first_state(system, next(make_stream())))
    step = make_step(
        system.objectives(), system.players(), prepare=system.prepare, accumulate=accumulate
    )
    compiled, history = None, []
    for _ in range(steps):
        batch = parallel.put(next(batches))
        compiled = compiled or parallel.compile(step, state, batch)
        state, metrics = compiled(state, batch)
        history.append(parallel.fetch(metrics))
    return history, parallel.single(state)


def assert_same(one, other, tolerance=1e-5):
    """Equal metrics at every step, and equal parameters, averages and variables."""
    for step, (a, b) in enumerate(zip(one[0], other[0])):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(
                b[name], a[name], rtol=tolerance, atol=tolerance, err_msg=f"{name}, step {step}"
            )
    players = jax.tree.leaves((one[1].players, other[1].players))
    half = len(players) // 2
    for a, b in zip(players[:half], players[half:]):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4)


GAN = TinyGan()


@pytest.fixture(scope="module")
def gan_on_one_device():
    return run(GAN, ParallelSettings(data=1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parity_of_a_gan(gan_on_one_device, layout):
    """Batch norm, spectral norm, lazy penalty, EMA: same numbers as one device."""
    assert_same(gan_on_one_device, run(GAN, LAYOUTS[layout]))


def test_parity_with_accumulation():
    system = Regression()
    whole = run(system, ParallelSettings(data=1))
    parts = run(system, ParallelSettings(data=4), accumulate=2)
    assert_same(whole, parts)


def test_gan_learns_the_disc_brightness():
    """Two-player generality: samples move to the data's mean brightness."""
    data = np.concatenate([next(stream(8, count=24))["image"] for _ in range(8)])
    _, state = run(GAN, ParallelSettings(data=1), steps=300)
    variables = {n: p.evaluation_variables() for n, p in state.players.items()}
    keys = jax.random.split(jax.random.key(5), 64)
    sample, before = jax.jit(GAN.sample), first_state(GAN, next(stream(8)))
    made = sample(variables, keys)
    untrained = sample({n: p.evaluation_variables() for n, p in before.players.items()}, keys)
    assert bool(jnp.isfinite(made).all())
    distance = np.abs(np.asarray(made).mean(0) - data.mean(0)).mean()
    assert distance < 0.5 * np.abs(np.asarray(untrained).mean(0) - data.mean(0)).mean()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (ParallelSettings(backend="tpu"), "unknown parallel.backend 'tpu'"),
        (ParallelSettings(backend="pmap", data=4, space=2), "pmap splits the batch only"),
        (ParallelSettings(data=16), "does not fit 8 device"),
        (ParallelSettings(data=-1, space=9), "does not fit 8 device"),
    ],
)
def test_impossible_layouts_are_named(settings, match):
    with pytest.raises(ValueError, match=match):
        Parallel(settings)


def test_a_volume_is_not_split_over_processes(monkeypatch):
    """Each would read it whole and take it for its part."""
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    with pytest.raises(ValueError, match="space=4 does not divide the 2 devices of a process"):
        Parallel(ParallelSettings(data=2, space=4))


def test_indivisible_batches_are_named():
    with pytest.raises(ValueError, match="batch_size=6 does not divide over data=8"):
        Parallel(ParallelSettings(data=8)).check_batch(6)
    with pytest.raises(ValueError, match=r"7 voxels .* parallel.space=2"):
        Parallel(ParallelSettings(data=4, space=2)).put({"image": np.zeros((4, 7, 8, 8, 1))})


def test_a_state_committed_to_one_device_is_replicated_and_copied():
    """What a checkpoint returns is committed; the step may donate the copies, not the originals."""
    parallel = Parallel(ParallelSettings(data=4))
    state = {"w": jax.device_put(jnp.arange(3.0), jax.devices()[0]), "key": jax.random.key(1)}
    placed = parallel.replicate(state)
    assert len(placed["w"].sharding.device_set) == 4
    jax.jit(lambda t: jax.tree.map(lambda x: x, t), donate_argnums=0)(placed)
    np.testing.assert_array_equal(state["w"], [0.0, 1.0, 2.0])
    assert (jax.random.key_data(state["key"]) == jax.random.key_data(jax.random.key(1))).all()
