import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.field_measures import jacobian_determinant
from jaxmedgen.ops.shooting import shoot
from jaxmedgen.ops.sobolev import GaussianMetric, SobolevMetric, flat, sharp
from jaxmedgen.ops.transport import sample_periodic

METRIC = SobolevMetric()
MODES = ("stored", "reversible", "adjoint")


def velocity(shape, largest, seed=0):
    """``K noise`` of given max |v|; float64 where that is enabled."""
    noise = np.random.default_rng(seed).normal(size=(1, *shape, len(shape)))
    v = sharp(jnp.asarray(noise), METRIC)
    return largest * v / jnp.sqrt((v**2).sum(-1)).max()


def relative(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


def test_constant_velocity_is_an_exact_translation():
    v = jnp.broadcast_to(jnp.asarray([2.3, -1.7, 0.4]), (1, 6, 7, 8, 3))
    shot = shoot(v, METRIC, steps=3, maps=("forward", "inverse"))
    np.testing.assert_allclose(shot.velocity, v, atol=1e-5)
    np.testing.assert_allclose(shot.forward, v, atol=1e-5)
    np.testing.assert_allclose(shot.inverse, -v, atol=1e-5)


def test_maps_are_inverse_to_each_other_and_do_not_fold():
    v = velocity((24, 24, 24), 3.0)
    shot = jax.jit(functools.partial(shoot, metric=METRIC, maps=("forward", "inverse")))(v)
    assert float(jnp.abs(shot.forward).max()) > 2
    for u in (shot.forward, shot.inverse):
        assert float(jacobian_determinant(u).min()) > 0.1
    residual = shot.inverse + sample_periodic(shot.forward, shot.inverse)
    assert float(jnp.abs(residual).max()) < 0.3
    assert float(jnp.sqrt(jnp.mean(residual**2))) < 0.03
    assert relative(shot.momentum, flat(shot.velocity, METRIC)) < 1e-4


def test_forms_and_starts_agree_and_a_gaussian_metric_shoots_from_a_momentum():
    with jax.enable_x64(True):
        v = velocity((16, 16), 2.0)
        a = shoot(v, METRIC, maps=())
        b = shoot(flat(v, METRIC), METRIC, start_is="momentum", form="velocity", maps=())
        np.testing.assert_allclose(a.velocity, b.velocity, atol=1e-9)
        gaussian = GaussianMetric((2.0, 4.0))
        m = jnp.asarray(np.random.default_rng(2).normal(size=(1, 16, 16, 2)))
        m = m * 3 / jnp.abs(sharp(m, gaussian)).max()
        shot = shoot(m, gaussian, start_is="momentum")
        before, after = jnp.vdot(m, sharp(m, gaussian)), jnp.vdot(shot.momentum, shot.velocity)
        assert abs(after / before - 1) < 1e-4 and a.inverse is None


# Smooth on the scale of many voxels: the adjoint is the gradient of the continuous problem.
SMOOTH = SobolevMetric(alpha=8.0)


def outputs(v, mode):
    shot = shoot(v, SMOOTH, maps=("forward", "inverse"), gradient=mode)
    return shot.velocity, shot.forward, shot.inverse


@pytest.fixture(scope="module")
def pulled():
    """Gradient of a weighted sum of each output, by mode, in the metric; and by differences."""
    with jax.enable_x64(True):
        v, direction, *weights = (sharp(velocity((32, 30), 1.0, s), SMOOTH) for s in range(5))
        v, direction = (2 * x / jnp.abs(x).max() for x in (v, direction))
        weights = [w / jnp.abs(w).max() for w in weights]
        found = {}
        for mode in MODES:
            pull = jax.jit(lambda v, *c, mode=mode: jax.vjp(lambda v: outputs(v, mode), v)[1](c)[0])
            masks = np.eye(3)
            found[mode] = [pull(v, *(w * k for w, k in zip(weights, row))) for row in masks]
        run = jax.jit(lambda v: outputs(v, "stored"))
        high, low = run(v + 1e-6 * direction), run(v - 1e-6 * direction)
        numeric = [float(jnp.vdot(w, (a - b) / 2e-6)) for w, a, b in zip(weights, high, low)]
        exact = [float(jnp.vdot(g, direction)) for g in found["stored"]]
        found = {mode: [sharp(g, SMOOTH) for g in three] for mode, three in found.items()}
    return found, exact, numeric


def test_gradients_agree_with_finite_differences(pulled):
    _, exact, numeric = pulled
    np.testing.assert_allclose(exact, numeric, rtol=1e-5)
    assert min(np.abs(exact)) > 0.1


@pytest.mark.parametrize(
    "mode, tolerances",
    [
        ("reversible", (1e-5, 1e-5, 3e-3)),
        ("adjoint", (0.01, 0.01, 0.01)),
    ],
)
def test_modes_agree_with_stored_states(pulled, mode, tolerances):
    found, _, _ = pulled
    errors = [relative(a, b) for a, b in zip(found[mode], found["stored"])]
    assert (np.asarray(errors) < tolerances).all(), errors


def test_memory_of_the_reversible_and_adjoint_modes_does_not_grow_with_the_steps():
    v = jnp.zeros((1, 24, 24, 2))

    def temporary(mode, steps):
        def loss(v):
            return jnp.sum(shoot(v, METRIC, steps=steps, maps=(), gradient=mode).velocity ** 2)

        compiled = jax.jit(jax.grad(loss)).lower(v).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    for mode in ("reversible", "adjoint"):
        assert temporary(mode, 40) <= 1.02 * temporary(mode, 5)
    assert temporary("stored", 40) > 3 * temporary("stored", 5)


def test_padding_keeps_the_flow_from_coming_in_on_the_other_side():
    m = np.zeros((1, 24, 16, 2), np.float32)
    m[:, 19:21, 6:10, 0] = 1.0
    m = jnp.asarray(m) * 4 / jnp.abs(sharp(jnp.asarray(m), METRIC)).max()
    bare, padded = (shoot(m, METRIC, start_is="momentum", padding=p).velocity for p in (0, 16))
    assert padded.shape == m.shape
    # What leaves at the far end comes in at the near end without padding.
    near = [float(jnp.abs(x[:, :4]).max()) for x in (bare, padded)]
    assert near[0] > 10 * near[1] and float(jnp.abs(padded[:, -4:]).max()) > 1


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"integrator": "heun"}, "integrator 'heun'"),
        ({"steps": 0}, "steps 0"),
        ({"maps": ("backward",)}, "maps 'backward'"),
        ({"order": 2}, "order 2"),
        ({"gradient": "reversible", "integrator": "euler"}, "use 'rk4'"),
        ({"gradient": "adjoint", "form": "velocity"}, "'momentum'"),
        ({"padding": -1}, "padding -1"),
    ],
)
def test_bad_input_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        shoot(jnp.zeros((1, 4, 4, 2)), METRIC, **settings)
    with pytest.raises(ValueError, match="start"):
        shoot(jnp.zeros((1, 4, 4, 3)), METRIC)
