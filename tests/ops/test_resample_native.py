"""The C++ sampler against plain XLA: derivatives of every kind, under every transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.kernels import resample_native
from jaxmedgen.ops.resample import resample

pytestmark = pytest.mark.skipif(not resample_native.available(), reason="no C++ compiler")

CASES = [  # shape, channels, order, mode
    ((6, 7, 8), 3, 1, "constant"),
    ((40, 5, 4), 13, 1, "wrap"),  # several slabs, every width of channel block
    ((9, 7), 1, 1, "reflect"),
    ((6, 7, 8), 2, 3, "border"),
    ((6, 7), 1, 3, "constant"),
    ((6, 7), 1, 0, "border"),
]


def _case(shape, channels, points=1500, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(2, *shape, channels)).astype(np.float32)
    x = [rng.uniform(-2.0, n + 1.0, size=(2, points)) for n in shape]
    g = rng.normal(size=(2, points, channels)).astype(np.float32)
    return jnp.asarray(image), jnp.asarray(np.stack(x, -1), jnp.float32), jnp.asarray(g)


def _both(function, *arrays):
    """Results of `function(backend, *arrays)` by the kernel and by XLA."""
    return [jax.jit(functools.partial(function, name))(*arrays) for name in ("native", "xla")]


def _assert_close(native, xla, tolerance=1e-4):
    pairs = zip(jax.tree.leaves(native), jax.tree.leaves(xla), strict=True)
    for index, (a, b) in enumerate(pairs):
        scale = float(jnp.abs(b).max())
        assert scale > 0, f"result {index} is zero: nothing is compared"
        assert float(jnp.abs(a - b).max()) < tolerance * scale, f"result {index}"


@pytest.mark.parametrize("shape,channels,order,mode", CASES, ids=str)
def test_gradients_equal_xla(shape, channels, order, mode):
    image, x, g = _case(shape, channels)

    def gradients(backend, image, x):
        sample = functools.partial(resample, order=order, mode=mode, backend=backend)
        if order == 0:
            return jax.vjp(lambda image: sample(image, x), image)[1](g)
        both = jax.vjp(sample, image, x)[1](g)
        if backend == "xla":
            return both, both
        of_image = jax.vjp(lambda image: sample(image, x), image)[1](g)
        of_x = jax.vjp(lambda x: sample(image, x), x)[1](g)
        return both, (*of_image, *of_x)

    _assert_close(*_both(gradients, image, x))


def test_hessian_vector_product_of_splines_equals_xla():
    image, x, g = _case((5, 6), 2, points=40)
    directions = _case((5, 6), 2, points=40, seed=1)[:2]

    def product(backend, image, x):
        def loss(image, x):
            return jnp.sum(g * jnp.sin(resample(image, x, order=3, backend=backend)))

        return jax.jvp(jax.grad(loss, (0, 1)), (image, x), directions)[1]

    _assert_close(*_both(product, image, x))


def test_gradient_of_a_gradient_equals_xla():
    image, x, g = _case((5, 6), 2, points=40)
    dimage, dx, _ = _case((5, 6), 2, points=40, seed=1)

    def second(backend, image, x):
        def loss(image, x):
            return jnp.sum(g * jnp.sin(resample(image, x, backend=backend)))

        def penalty(image, x):
            gi, gx = jax.grad(loss, (0, 1))(image, x)
            return jnp.sum(gi**2) + jnp.sum(gx**2)

        def slope(image, x):
            return jax.jvp(loss, (image, x), (dimage, dx))[1]

        return jax.grad(penalty, (0, 1))(image, x), jax.grad(slope, (0, 1))(image, x)

    _assert_close(*_both(second, image, x))


def test_nearest_follows_no_motion():
    image, x, _ = _case((6, 7), 2, points=30)
    sample = functools.partial(resample, order=0, backend="native")
    assert not np.any(jax.grad(lambda x: sample(image, x).sum())(x))
    out, change = jax.jvp(sample, (image, x), (2 * image, x))
    np.testing.assert_allclose(change, 2 * out)


def test_transforms_compose():
    """vmap (of either argument), jit, remat and scan, of gradients."""
    image, x, g = _case((5, 6), 2, points=50)
    images = jnp.stack([image, 2 * image, image[::-1]])

    def loss(backend, image, x):
        return jnp.sum(g * resample(image, x, backend=backend) ** 2)

    def mapped(backend, images, x):
        gradient = jax.grad(functools.partial(loss, backend), (0, 1))
        over_images = jax.vmap(gradient, (0, None))(images, x)
        over_both = jax.vmap(gradient, (0, 1))(images, jnp.stack([x, x + 0.3, x - 0.2], 1))
        kept = jax.grad(jax.checkpoint(functools.partial(loss, backend)))(images[0], x)
        return over_images, over_both, kept

    _assert_close(*_both(mapped, images, x))


def test_gradient_through_scan():
    """Scaling and squaring of a velocity: the sampled image is the sampling field."""
    rng = np.random.default_rng(0)
    velocity = jnp.asarray(rng.normal(size=(1, 6, 7, 5, 3)), jnp.float32)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (6, 7, 5)), indexing="ij"), -1)
    grid = jnp.asarray(grid, jnp.float32)
    weight = jnp.asarray(rng.normal(size=velocity.shape), jnp.float32)

    def gradient(backend, velocity):
        def square(u, _):
            return u + resample(u, grid + u, backend=backend), None

        def loss(velocity):
            return jnp.vdot(weight, jax.lax.scan(square, velocity / 16, None, length=4)[0])

        return jax.value_and_grad(loss)(velocity)

    _assert_close(*_both(gradient, velocity), tolerance=1e-3)


def test_compiled_for_another_platform_it_is_plain_xla():
    image, x, _ = _case((5, 6), 2, points=20)
    gradient = jax.jit(jax.grad(lambda i, x: resample(i, x, backend="native").sum(), (0, 1)))
    exported = jax.export.export(gradient, platforms=["tpu"])(image, x)
    assert "jaxmedgen_" not in exported.mlir_module()
    here = jax.export.export(
        gradient,
        platforms=["cpu"],
        disabled_checks=[jax.export.DisabledSafetyCheck.custom_call("jaxmedgen_ResampleGradients")],
    )(image, x)
    assert "jaxmedgen_ResampleGradients" in here.mlir_module()
