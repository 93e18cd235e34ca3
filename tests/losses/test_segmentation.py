"""Segmentation losses: closed forms, ignored voxels, soft labels, several devices."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmedgen.losses.segmentation import (
    cross_entropy_loss,
    deep_supervision_loss,
    dice_ce_loss,
    dice_loss,
)
from jaxmedgen.ops.collectives import batch_axis

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=(4, 3, 4, 5, 3)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, 3, size=(4, 3, 4, 5)), jnp.int32)


def _dice_by_hand(batch, squared, first):
    p = np.float64(jax.nn.softmax(LOGITS))
    g = np.eye(3)[LABELS]
    dice = []
    for c in range(first, 3):
        groups = [slice(None)] if batch else [slice(i, i + 1) for i in range(4)]
        for s in groups:
            a, b = p[s, ..., c], g[s, ..., c]
            bottom = (a**2 + b**2).sum() if squared else (a + b).sum()
            dice.append((2 * (a * b).sum() + 1e-5) / (bottom + 1e-5))
    return 1 - np.mean(dice)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("background", [False, True])
def test_dice_equals_its_definition(batch, squared, background):
    ours = dice_loss(LOGITS, LABELS, include_background=background, batch=batch, squared=squared)
    assert float(ours) == pytest.approx(_dice_by_hand(batch, squared, not background), abs=1e-6)


def test_perfect_prediction_has_no_loss():
    sharp = 50.0 * jax.nn.one_hot(LABELS, 3)
    assert float(dice_ce_loss(sharp, LABELS)) == pytest.approx(0.0, abs=1e-6)


def test_cross_entropy_equals_optax_and_torch_weighting():
    each = optax.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS)
    assert float(cross_entropy_loss(LOGITS, LABELS)) == pytest.approx(float(each.mean()), rel=1e-5)
    weights = jnp.array([0.2, 1.0, 3.0])
    w = weights[LABELS]
    expected = float((w * each).sum() / w.sum())
    ours = cross_entropy_loss(LOGITS, LABELS, class_weights=weights)
    assert float(ours) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="class_weights"):
        cross_entropy_loss(LOGITS, LABELS, class_weights=(1.0, 2.0))


@pytest.mark.parametrize("loss", [dice_loss, cross_entropy_loss, dice_ce_loss])
def test_one_hot_soft_labels_equal_integers(loss):
    soft = jax.nn.one_hot(LABELS, 3)
    np.testing.assert_allclose(loss(LOGITS, soft), loss(LOGITS, LABELS), rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(ignored=st.sampled_from([2, 255, -1]), seed=st.integers(0, 100), batch=st.booleans())
def test_ignored_voxels_contribute_nothing(ignored, seed, batch):
    rng = np.random.default_rng(seed)
    hidden = jnp.asarray(rng.random(LABELS.shape) < 0.3)
    labels = jnp.where(hidden, ignored, jnp.minimum(LABELS, 1))

    def loss(logits):
        return dice_ce_loss(logits, labels, ignore_label=ignored, batch=batch)

    value, grad = jax.value_and_grad(loss)(LOGITS)
    other = jnp.where(hidden[..., None], jnp.asarray(rng.normal(size=LOGITS.shape)) * 9, LOGITS)
    assert float(loss(other)) == pytest.approx(float(value), rel=1e-5)
    assert float(jnp.abs(jnp.where(hidden[..., None], grad, 0)).max()) == 0.0
    assert float(jnp.abs(grad).max()) > 0


@pytest.mark.parametrize("smooth", [1e-5, 0.0])
def test_all_ignored_is_zero_and_flat(smooth):
    labels = jnp.full_like(LABELS, 255)
    value, grad = jax.value_and_grad(dice_ce_loss)(LOGITS, labels, ignore_label=255, smooth=smooth)
    assert float(value) == 0.0
    assert not np.asarray(grad).any()


def test_ignoring_equals_cutting_out():
    labels = LABELS.at[:, :, 2:].set(7)
    for loss in (dice_loss, cross_entropy_loss):
        np.testing.assert_allclose(
            loss(LOGITS, labels, ignore_label=7),
            loss(LOGITS[:, :, :2], LABELS[:, :, :2]),
            rtol=1e-5,
        )


def test_gradient_against_finite_differences():
    with jax.enable_x64(True):
        logits = jnp.asarray(LOGITS, jnp.float64)[:1]
        direction = jnp.asarray(RNG.normal(size=logits.shape))

        def loss(t):  # float32 inside: a wide step balances rounding and truncation
            return float(dice_ce_loss(logits + t * direction, LABELS[:1], batch=True))

        slope = jnp.vdot(
            jax.grad(lambda v: dice_ce_loss(v, LABELS[:1], batch=True))(logits), direction
        )
        assert (loss(0.02) - loss(-0.02)) / 0.04 == pytest.approx(float(slope), rel=5e-3)


def test_deep_supervision_weights_and_labels():
    labels = jnp.asarray(RNG.integers(0, 3, (2, 4, 4, 4)), jnp.int32)
    seen = []

    def loss(logits, labels):
        seen.append(labels)
        return logits.mean()

    logits = [jnp.full((2, s, s, s, 3), v) for s, v in ((4, 1.0), (2, 10.0), (1, 100.0))]
    value = deep_supervision_loss(loss, logits, labels)
    assert float(value) == pytest.approx((4 * 1 + 2 * 10 + 1 * 100) / 7)
    np.testing.assert_array_equal(seen[1], labels[:, 1::2, 1::2, 1::2])
    soft = jax.nn.one_hot(labels, 3)
    deep_supervision_loss(loss, logits, soft)
    np.testing.assert_allclose(seen[5][:, 0, 0, 0], soft.mean((1, 2, 3)), rtol=1e-5)
    with pytest.raises(ValueError, match="multiple"):
        deep_supervision_loss(loss, [jnp.zeros((2, 3, 3, 3, 3))], labels)


@pytest.mark.parametrize("batch", [False, True])
def test_same_value_and_gradient_under_pmap(batch):
    labels = LABELS.at[0].set(9)  # the shards count different numbers of voxels

    def step(logits, labels):
        with batch_axis("i"):
            value, grad = jax.value_and_grad(dice_ce_loss)(
                logits, labels, ignore_label=9, batch=batch
            )
            # As the training step: psum's transpose counts every device's copy of the loss.
            return value, grad / 4

    value, grad = jax.pmap(step, axis_name="i")(LOGITS[:, None], labels[:, None])
    whole, whole_grad = jax.value_and_grad(dice_ce_loss)(
        LOGITS, labels, ignore_label=9, batch=batch
    )
    np.testing.assert_allclose(value, np.full(4, whole), rtol=1e-5)
    np.testing.assert_allclose(grad[:, 0], whole_grad, atol=1e-7)


def test_errors():
    with pytest.raises(ValueError, match="logits' shape"):
        inspect.unwrap(dice_loss)(LOGITS, LABELS[:, :2])  # past the shape checks of the tests
    with pytest.raises(ValueError, match="ignore_label=1"):
        dice_loss(LOGITS, jax.nn.one_hot(LABELS, 3), ignore_label=1)
    with pytest.raises(ValueError, match="include_background"):
        dice_loss(LOGITS[..., :1], LABELS)
