"""Sliding windows: equality with direct and whole-volume blending, memory, compiles, errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmedgen.ops import sliding_window

WEIGHTS = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)


@jax.jit
def _voxelwise(windows):
    return jnp.tanh(windows @ WEIGHTS) * 3


def _position_dependent(windows):
    """Logits that depend on the place in the window, so that blending matters."""
    ramp = jnp.linspace(-1, 1, windows.shape[1]).reshape(-1, *(1,) * (windows.ndim - 2))
    return _voxelwise(windows) * (1 + ramp) + ramp * jnp.arange(4.0)


def _volume(shape, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, 2)).astype(np.float32)


def _whole_volume(predict, volume, patch, overlap, blend):
    """The textbook: every window's logits into whole-volume sums, float64."""
    plan = sliding_window.inference_plan(volume.shape[:-1], patch, overlap=overlap)
    profiles = sliding_window.importance(patch, blend)
    total = np.zeros((*volume.shape[:-1], 4))
    weights = np.zeros((*volume.shape[:-1], 1))
    weight = np.ones((1,), np.float64)
    for profile in reversed(profiles):
        weight = profile.reshape(-1, *(1,) * weight.ndim) * weight
    for corner in itertools.product(*plan.starts):
        box = tuple(slice(c, c + p) for c, p in zip(corner, patch))
        total[box] += weight * np.asarray(predict(jnp.asarray(volume[box])[None]))[0]
        weights[box] += weight
    assert (weights > 0).all()
    return total / weights


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("shape", "patch"),
    [((13, 9, 11), (6, 5, 4)), ((17, 12), (5, 8)), ((4, 9, 3), (6, 5, 4)), ((3, 2), (8, 8))],
)
def test_voxelwise_network_gives_the_direct_prediction(shape, patch, blend):
    volume = _volume(shape)
    direct = _voxelwise(volume)
    run = lambda reduce: sliding_window.sliding_window_inference(  # noqa: E731
        _voxelwise, volume, patch, blend=blend, batch_size=3, reduce=reduce
    )
    labels = run("argmax")
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, direct.argmax(-1))
    np.testing.assert_allclose(run("probabilities"), jax.nn.softmax(direct, -1), atol=1e-5)
    np.testing.assert_allclose(run("mean"), direct, atol=1e-5)


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_slabs_equal_whole_volume_blending(blend, batch_size):
    volume, patch = _volume((15, 10, 9), seed=1), (6, 4, 5)
    blended = _whole_volume(_position_dependent, volume, patch, 0.6, blend)
    options = {"overlap": 0.6, "blend": blend, "batch_size": batch_size}
    mean = sliding_window.sliding_window_inference(
        _position_dependent, volume, patch, reduce="mean", **options
    )
    np.testing.assert_allclose(mean, blended, atol=2e-5)
    labels = sliding_window.sliding_window_inference(_position_dependent, volume, patch, **options)
    np.testing.assert_array_equal(labels, blended.argmax(-1))


def test_one_compile_for_all_volumes_and_batches():
    shapes = []

    @jax.jit
    def predict(windows):
        shapes.append(windows.shape)
        return _voxelwise(windows)

    for shape in ((13, 9), (10, 8), (3, 4)):
        sliding_window.sliding_window_inference(predict, _volume(shape), (5, 4), batch_size=4)
    assert shapes == [(4, 5, 4, 2)]


def test_slab_is_small():
    plan = sliding_window.inference_plan((384, 384, 384), (96, 96, 96), batch_size=2)
    assert plan.slab_bytes(100) == 4 * 100 * 96 * 384 * 384
    assert plan.slab_bytes(100) * 4 == 4 * 100 * 384**3
    assert plan.windows == 7**3 and plan.batches == 172


def test_planes_leave_as_soon_as_they_are_finished():
    volume, seen = _volume((20, 4)), []
    plan = sliding_window.inference_plan((20, 4), (8, 4))

    def predict(windows):
        seen.append(windows.shape)
        return _voxelwise(windows)

    planes = sliding_window._reduced_planes(
        predict, volume, plan, (8, 4), "gaussian", 1, "argmax", None
    )
    assert next(planes).shape == (4, 4)
    assert len(seen) == 2
    assert sum(len(done) for done in planes) + 4 == 20


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.sampled_from([0.0, 0.25, 0.5, 0.9]),
    st.sampled_from(["gaussian", "constant"]),
)
def test_windows_cover_everything_with_positive_weight(size, patch, overlap, blend):
    plan = sliding_window.inference_plan((size, 7), (patch, 7), overlap=overlap)
    starts = plan.starts[0]
    assert starts[0] == 0 and starts[-1] == plan.padded_shape[0] - patch
    assert all(b > a for a, b in itertools.pairwise(starts))
    assert all(b - a <= max(1, patch * (1 - overlap)) for a, b in itertools.pairwise(starts))
    profile = sliding_window.importance((patch,), blend)[0]
    total = sliding_window._total_weight(starts, profile, plan.padded_shape[0])
    assert (total > 0).all() and np.isfinite(total).all()


def test_gaussian_prefers_the_middle():
    profile = sliding_window.importance((33,), "gaussian")[0]
    assert profile.argmax() == 16 and profile[16] == 1
    np.testing.assert_allclose(profile, profile[::-1])
    assert profile[0] == pytest.approx(np.exp(-0.5 * (16 / (33 / 8)) ** 2), rel=1e-4)


def test_windows_sharded_over_devices_give_the_same():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    sharded = jax.jit(_position_dependent, in_shardings=rows, out_shardings=rows)
    volume = _volume((11, 9), seed=2)
    expected = sliding_window.sliding_window_inference(_position_dependent, volume, (5, 4))
    found = sliding_window.sliding_window_inference(sharded, volume, (5, 4), batch_size=4)
    np.testing.assert_array_equal(found, expected)


def test_device_array_and_integers_are_accepted():
    volume = jnp.asarray(np.arange(48).reshape(6, 4, 2) % 5, jnp.int32)
    predict = lambda w: _voxelwise(w.astype(jnp.float32))  # noqa: E731
    found = sliding_window.sliding_window_inference(predict, volume, (3, 3))
    np.testing.assert_array_equal(found, predict(volume).argmax(-1))


def test_around_a_small_image_is_each_channels_lowest_value():
    """As in the patches of training: an edge that is repeated would be a body that goes on."""
    volume, seen = _volume((3, 7)) + np.array([0, 5], np.float32), []

    def predict(windows):
        seen.append(np.asarray(windows[0]))
        return windows

    options = {"reduce": "mean", "blend": "constant"}
    found = sliding_window.sliding_window_inference(predict, volume, (6, 7), **options)
    np.testing.assert_allclose(found, volume)
    (window,) = seen
    np.testing.assert_array_equal(window[1:4], volume)
    for part in (window[:1], window[4:]):
        np.testing.assert_array_equal(part, np.broadcast_to(volume.min((0, 1)), part.shape))


def test_abort_is_polled_before_every_call():
    calls = []

    def predict(windows):
        calls.append(1)
        return _voxelwise(windows)

    with pytest.raises(sliding_window.InferenceAborted, match="after 2 of 7 windows"):
        sliding_window.sliding_window_inference(
            predict, _volume((16, 4)), (4, 4), abort=lambda: len(calls) == 2
        )


@pytest.mark.parametrize(
    ("patch", "options", "message"),
    [
        ((4,), {}, "does not fit"),
        ((4, 0), {}, "must be positive"),
        ((4, 4), {"overlap": 1.0}, "overlap is 1.0"),
        ((4, 4), {"predict": lambda w: w[:, 1:]}, "must keep the batch"),
    ],
)
def test_errors(patch, options, message):
    predict = options.pop("predict", _voxelwise)
    with pytest.raises(ValueError, match=message):
        sliding_window.sliding_window_inference(predict, _volume((8, 8)), patch, **options)
