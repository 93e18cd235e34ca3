import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct as Shape
from scipy import ndimage

from jaxmedgen.ops.kernels import resample_pallas
from jaxmedgen.ops.kernels.resample_bounded import resample_bounded, resample_bounded_pallas
from jaxmedgen.ops.kernels.resample_pallas import sample_pallas
from jaxmedgen.ops.kernels.resample_xla import sample_xla
from jaxmedgen.ops.resample import resample
from tests.ops.kernels.lowering import compile_for_tpu, gpu_kernels, tpu_kernels

SCIPY = {"border": "nearest", "constant": "grid-constant", "reflect": "mirror", "wrap": "grid-wrap"}
MODES = pytest.mark.parametrize("mode", SCIPY)


def draw(space, channels, points):
    """Image, points (some at voxel centres, some outside) and a cotangent of two samples."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, *space, channels))
    x = rng.uniform(-3, max(space) + 2, size=(2, points, len(space)))
    x[:, :9] = np.round(x[:, :9])
    g = rng.normal(size=(2, points, channels))
    return [jnp.asarray(a, jnp.float32) for a in (image, x, g)]


@MODES
@pytest.mark.parametrize(("space", "channels"), [((5, 6), 1), ((4, 5, 6), 6)])
def test_kernel_and_its_gradients(mode, space, channels):
    image, x, g = draw(space, channels, 150)
    ours = functools.partial(sample_pallas, mode=mode, platform="gpu", interpret=True)
    y, back = jax.vjp(ours, image, x)
    for b in range(2):
        for c in range(channels):
            expected = ndimage.map_coordinates(
                np.asarray(image[b, ..., c]), np.asarray(x[b]).T, order=1, mode=SCIPY[mode]
            )
            np.testing.assert_allclose(y[b, :, c], expected, atol=1e-5)
    _, reference = jax.vjp(functools.partial(sample_xla, order=1, mode=mode), image, x)
    for a, b in zip(back(g), reference(g)):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert y.shape == (2, 150, channels)


def test_gradient_of_a_gradient_agrees_with_finite_differences():
    with jax.enable_x64(True):
        image, x, g = (a.astype(jnp.float64) for a in draw((5, 6), 2, 20))
        x = jnp.clip(x, 0.3, 3.7) + 0.01 * g  # no point at a kink

        ours = functools.partial(sample_pallas, platform="gpu", interpret=True)

        @jax.jit
        def slope(image, x):
            y, back = jax.vjp(ours, image, x)
            return sum(jnp.sum(jnp.sin(a)) for a in back(y**2))

        along = jnp.asarray(np.random.default_rng(1).normal(size=x.shape))
        numeric = (slope(image, x + 1e-6 * along) - slope(image, x - 1e-6 * along)) / 2e-6
        analytic = jnp.vdot(jax.jit(jax.grad(slope, 1))(image, x), along)
    assert float(analytic) == pytest.approx(float(numeric), rel=1e-5)


@MODES
@pytest.mark.parametrize(("space", "radius"), [((5, 6), 2), ((4, 5, 6), 1)])
def test_bounded_stencil_is_linear_interpolation(mode, space, radius):
    n = len(space)
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(2, *space, 2)), jnp.float32)
    u = jnp.asarray(rng.uniform(-radius, radius, size=(2, *space, n)), jnp.float32)
    u = u.at[:, 0, 0].set(radius)  # the largest shift counts in full
    expected = np.stack(
        [
            ndimage.map_coordinates(
                np.asarray(image[b, ..., c]),
                np.moveaxis(np.indices(space), 0, -1).reshape(-1, n).T
                + np.asarray(u[b]).reshape(-1, n).T,
                order=1,
                mode=SCIPY[mode],
            ).reshape(space)
            for b in range(2)
            for c in range(2)
        ]
    ).reshape(2, 2, *space)
    kernel = functools.partial(resample_bounded_pallas, platform="tpu", interpret=True)
    for form in resample_bounded, kernel:
        y = jax.jit(functools.partial(form, radius=radius, mode=mode))(image, u)
        np.testing.assert_allclose(np.moveaxis(y, -1, 1), expected, atol=1e-5)
        assert y.dtype == jnp.float32


def test_gradients_of_the_bounded_stencil_are_those_of_a_gather():
    image, _, _ = draw((4, 5, 6), 2, 9)
    u = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, size=(2, 4, 5, 6, 3)), jnp.float32)
    grid = jnp.moveaxis(jnp.asarray(np.indices((4, 5, 6)), jnp.float32), 0, -1)

    def gathered(image, u):
        x = (grid + u).reshape(2, -1, 3)
        return sample_xla(image, x, order=1, mode="wrap").reshape(image.shape)

    def gradients(f):
        return jax.jit(jax.grad(lambda i, u: jnp.sum(jnp.sin(f(i, u))), (0, 1)))(image, u)

    setting = dict(radius=1, mode="wrap", platform="tpu", interpret=True)
    bounded = functools.partial(resample_bounded_pallas, **setting)
    for a, b in zip(gradients(bounded), gradients(gathered)):
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert float(jnp.abs(b).max()) > 0.1


def test_kernels_lower_for_gpu_and_tpu():
    image, x = Shape((2, 32, 32, 32, 3), jnp.float32), Shape((2, 4096, 3), jnp.float32)

    def loss(image, x):
        return jnp.sum(sample_pallas(image, x, mode="constant", platform="gpu") ** 2)

    assert gpu_kernels(loss, image, x) == ["resample"]
    assert gpu_kernels(jax.grad(loss, (0, 1)), image, x) == ["resample", "resample_gradient"]
    run = functools.partial(resample_bounded_pallas, radius=1, platform="tpu")
    assert tpu_kernels(run, image, image) == 1


@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1"])
def test_bounded_kernel_compiles_ahead_of_time_for_tpu(topology):
    run = functools.partial(resample_bounded_pallas, radius=1, platform="tpu")
    for shape in (1, 48, 48, 48, 3), (1, 30, 34, 36, 3), (1, 90, 100, 2):
        field = Shape(shape, jnp.float32)
        compiled = compile_for_tpu(run, topology, field, field)
        assert compiled.memory_analysis().output_size_in_bytes >= 4 * np.prod(shape)


def test_bad_input_is_named():
    image, x, _ = draw((5, 6), 1, 10)
    with pytest.raises(ValueError, match=r"points of shape \(2, 10, 1\)"):
        sample_pallas(image, x[..., :1])
    with pytest.raises(ValueError, match="'tpu' has no kernel for arbitrary points"):
        sample_pallas(image, x, platform="tpu")
    with pytest.raises(ValueError, match=r"has 2\^31 numbers or more"):
        jax.eval_shape(
            functools.partial(sample_pallas, platform="gpu"),
            Shape((1, 2048, 1024, 1024, 1), jnp.float32),
            Shape((1, 1, 3), jnp.float32),
        )
    with pytest.raises(ValueError, match=r"displacement \(2, 5, 6, 3\)"):
        resample_bounded(image, jnp.zeros((2, 5, 6, 3)), 1)
    with pytest.raises(ValueError, match="radius 0 must be"):
        resample_bounded(image, jnp.zeros((2, 5, 6, 2)), 0)
    with pytest.raises(ValueError, match="needs 6 voxels an axis"):
        resample_bounded(image, jnp.zeros((2, 5, 6, 2)), 6, mode="wrap")


def test_the_door_runs_the_kernel_where_asked(monkeypatch):
    image, x, _ = draw((5, 6), 2, 12)
    with pytest.raises(ValueError, match="'cpu' has no Pallas kernels"):
        resample(image, x, backend="pallas")
    with pytest.raises(ValueError, match=r"is linear \(order 1\), not of order 3"):
        resample(image, x, order=3, backend="pallas")
    monkeypatch.setattr(resample_pallas, "kernel_platform", lambda platform: "gpu")
    assert gpu_kernels(functools.partial(resample, backend="pallas"), image, x) == ["resample"]
