"""Reconstruction losses of label maps, summed over voxels, mean over samples.

A sum over voxels, not their mean: with the mean the weight of a Kullback-Leibler term would be
another by the number of voxels (16 384 for 128 x 128).

Source: the choices of the reference implementation of Amirrajab et al., MELBA 2023:010.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxmedgen.losses.segmentation import dice_loss
from jaxmedgen.losses.variational import per_sample

Reconstruction = Literal["ce", "dice", "ce+dice", "bce", "mse", "l1"]
RECONSTRUCTIONS: tuple[Reconstruction, ...] = ("ce", "dice", "ce+dice", "bce", "mse", "l1")

DICE_WEIGHT = 1000.0
"""Of the Dice term beside a summed cross-entropy."""


def label_reconstruction_loss(
    scores: Float[Array, " b *s k"], label: Int[Array, " b *s"], kind: Reconstruction | str = "ce"
) -> Float[Array, ""]:
    """How far scores are from a label map.

    ``ce``: ``-log softmax(o)[S]`` summed over voxels; ``bce``: of the sigmoid of every class;
    ``mse`` and ``l1``: of the softmax to the one-hot map; ``dice``: `dice_loss` with sums over the
    batch, background included; ``ce+dice``: ``ce + 1000 dice``. No class weights.

    Args:
        scores: before the softmax.
        label: classes.
        kind: one of `RECONSTRUCTIONS`.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in RECONSTRUCTIONS:
        raise ValueError(f"reconstruction '{kind}': choose one of {', '.join(RECONSTRUCTIONS)}")
    if kind == "dice":
        return dice_loss(scores, label, include_background=True, batch=True)
    scores = scores.astype(jnp.float32)
    onehot = jax.nn.one_hot(label, scores.shape[-1])
    if kind in ("ce", "ce+dice"):
        terms = optax.softmax_cross_entropy_with_integer_labels(scores, label)
    elif kind == "bce":
        terms = optax.sigmoid_binary_cross_entropy(scores, onehot)
    else:
        difference = jax.nn.softmax(scores) - onehot
        terms = jnp.square(difference) if kind == "mse" else jnp.abs(difference)
    value = per_sample(terms).mean()
    if kind == "ce+dice":
        value = value + DICE_WEIGHT * dice_loss(scores, label, include_background=True, batch=True)
    return value
