"""Losses of segmentation: Dice, cross-entropy, their sum, deep supervision.

Dice: Milletari et al., 3DV 2016 (V-Net), in MONAI's ``DiceLoss`` form; Dice + cross-entropy and the
halving weights of deep supervision: Isensee et al., Nature Methods 18, 2021. Labels are integers
``[b, *s]`` or class weights ``[b, *s, k]`` (soft labels, rows summing to one). All means and sums
are over the global batch.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.ops.collectives import all_mean, all_sum
from jaxmedgen.ops.upsample import average_pool

Labels = Int[Array, "b *s"] | Float[Array, "b *s k"]
Loss = Callable[[Array, Array], Array]


def dice_loss(
    logits: Float[Array, "b *s k"],
    labels: Labels,
    *,
    include_background: bool = False,
    batch: bool = False,
    ignore_label: int | None = None,
    smooth: float = 1e-5,
    squared: bool = False,
) -> Float[Array, ""]:
    """Soft Dice loss of the softmax, averaged over samples and classes.

    ``1 - (2 sum p g + smooth) / (sum p + sum g + smooth)`` with the sums over space.

    Args:
        logits: scores before the softmax.
        labels: integer or soft labels.
        include_background: whether class 0 counts.
        batch: sums over the whole batch too, which steadies classes that few samples have.
        ignore_label: value of integer labels that counts nowhere.
        smooth: keeps an absent class finite; with it, absence in both is no loss.
        squared: ``p**2`` and ``g**2`` in the denominator, as V-Net has it.

    Raises:
        ValueError: shapes do not fit; one class without background; soft labels to be ignored.
    """
    target, mask = _targets(logits, labels, ignore_label)
    if not include_background and logits.shape[-1] < 2:
        raise ValueError("dice_loss: logits have 1 class and include_background=False leaves none")
    first = 0 if include_background else 1
    p = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)[..., first:]
    g = target[..., first:]
    if mask is not None:
        p = p * mask
    space = tuple(range(0 if batch else 1, p.ndim - 1))
    power = jnp.square if squared else lambda v: v
    overlap, volume = (p * g).sum(space), (power(p) + power(g)).sum(space)
    if batch:
        overlap, volume = all_sum(overlap), all_sum(volume)
    denominator = volume + smooth
    empty = denominator <= 0
    dice = jnp.where(empty, 1.0, (2 * overlap + smooth) / jnp.where(empty, 1.0, denominator))
    return 1 - (dice.mean() if batch else all_mean(dice.mean()))


def cross_entropy_loss(
    logits: Float[Array, "b *s k"],
    labels: Labels,
    *,
    ignore_label: int | None = None,
    class_weights: Float[Array, " k"] | Sequence[float] | None = None,
) -> Float[Array, ""]:
    """Cross-entropy of the softmax, averaged over the voxels that count.

    With weights: ``sum_v w[g_v] ce_v / sum_v w[g_v]``, as PyTorch has it; a soft label weighs as
    the mixture of its classes does.

    Args:
        logits: scores before the softmax.
        labels: integer or soft labels.
        ignore_label: value of integer labels that counts nowhere; where nothing counts the loss
            is 0.
        class_weights: weight of each class.

    Raises:
        ValueError: shapes do not fit; soft labels to be ignored.
    """
    target, _ = _targets(logits, labels, ignore_label)  # zero in all classes where ignored
    if class_weights is not None:
        weights = jnp.asarray(class_weights, jnp.float32)
        if weights.shape != logits.shape[-1:]:
            raise ValueError(
                f"cross_entropy_loss: class_weights {weights.shape} must be one for each of the "
                f"{logits.shape[-1]} classes"
            )
        target = target * weights
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    total, count = all_sum(-(target * log_p).sum()), all_sum(target.sum())
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1.0), 0.0)


def dice_ce_loss(
    logits: Float[Array, "b *s k"],
    labels: Labels,
    *,
    include_background: bool = False,
    batch: bool = False,
    ignore_label: int | None = None,
    smooth: float = 1e-5,
    squared: bool = False,
    class_weights: Float[Array, " k"] | Sequence[float] | None = None,
) -> Float[Array, ""]:
    """`dice_loss` + `cross_entropy_loss`."""
    return dice_loss(
        logits,
        labels,
        include_background=include_background,
        batch=batch,
        ignore_label=ignore_label,
        smooth=smooth,
        squared=squared,
    ) + cross_entropy_loss(logits, labels, ignore_label=ignore_label, class_weights=class_weights)


def deep_supervision_loss(
    loss: Loss, logits: Sequence[Float[Array, "b *_ k"]], labels: Labels
) -> Float[Array, ""]:
    """Weighted mean of a loss over logits of several resolutions.

    Weights 1, 1/2, 1/4, ... from full to coarse, normalised to sum to one. Integer labels are
    brought down by taking the voxel at each block's middle, soft labels by the block's mean.

    Args:
        loss: ``(logits, labels) -> scalar``.
        logits: from full to coarse; the labels' size must be a multiple of each.
        labels: at full resolution.

    Raises:
        ValueError: no logits, or a size that does not divide the labels'.
    """
    if not logits:
        raise ValueError("deep_supervision_loss: logits are empty; pass at least one array")
    weights = [2.0**-i for i in range(len(logits))]
    parts = [w * loss(y, _shrink(labels, y.shape[1:-1])) for w, y in zip(weights, logits)]
    return sum(parts[1:], start=parts[0]) / math.fsum(weights)


def _shrink(labels, size):
    soft = jnp.issubdtype(labels.dtype, jnp.floating)
    full = labels.shape[1 : 1 + len(size)]
    if any(a % b for a, b in zip(full, size)):
        raise ValueError(
            f"deep_supervision_loss: labels {full} are not a multiple of logits {size}"
        )
    factor = tuple(a // b for a, b in zip(full, size))
    if soft:
        return average_pool(labels, factor)
    return labels[(slice(None), *(slice(f // 2, None, f) for f in factor))]


def _targets(logits, labels, ignore_label):
    """Class weights a voxel [b, *s, k], zero where ignored, and the mask [b, *s, 1] or None."""
    if jnp.issubdtype(labels.dtype, jnp.floating):
        if labels.shape != logits.shape:
            raise ValueError(
                f"soft labels {labels.shape} must have the logits' shape {logits.shape}"
            )
        if ignore_label is not None:
            raise ValueError(
                f"ignore_label={ignore_label} needs integer labels; soft ones can be ignored by "
                "setting them to zero in all classes, without ignore_label"
            )
        return labels.astype(jnp.float32), None
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"labels {labels.shape} must have the logits' shape {logits.shape[:-1]}")
    classes = jnp.arange(logits.shape[-1], dtype=labels.dtype)
    target = (labels[..., None] == classes).astype(jnp.float32)
    if ignore_label is None:
        return target, None
    mask = (labels != ignore_label)[..., None].astype(jnp.float32)
    return target * mask, mask
