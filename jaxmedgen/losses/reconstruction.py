"""Reconstruction losses and likelihoods of what a decoder gives: logits or a mean.

Sums over voxels, means over the batch: with the mean over voxels the weight of a Kullback-Leibler
term would be another by the number of voxels, and beta = 1 no bound (posterior collapse). With
``bce`` and beta = 1 the loss is the exact Bernoulli bound; with ``l2_sq`` and a Gaussian of
variance s^2 it is one, up to a constant, for ``beta = 2 s^2``.

Source: Doersch, "Tutorial on variational autoencoders", 2016; the unsquared norm is that of J. J.
Cerrolaza, "Variational autoencoders for medical imaging", AISIS 2019.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmedgen.losses.variational import gaussian_log_density, per_sample

Kind = Literal["l2_norm", "l2_sq", "l1", "bce", "dice", "ce"]
KINDS: tuple[Kind, ...] = ("l2_norm", "l2_sq", "l1", "bce", "dice", "ce")
OF_LOGITS: tuple[Kind, ...] = ("bce", "dice", "ce")
"""Kinds that take logits; the others take a mean."""
Reduction = Literal["sum", "mean", "none"]
REDUCTIONS: tuple[Reduction, ...] = ("sum", "mean", "none")
LIKELIHOODS = ("bernoulli", "gaussian", "laplace", "categorical")

ROOT_FLOOR = 1e-12
"""Under the root of ``l2_norm``, whose gradient has no limit at a perfect reconstruction."""


def reconstruction_loss(
    kind: str,
    x: Float[Array, " b *s c"],
    output: Float[Array, " b *s c"],
    reduction: str = "sum",
) -> Float[Array, "..."]:
    """How far a decoder's output is from the data, in float32.

    ``l2_norm``: ``sqrt(sum (x - o)^2)``; ``l2_sq``: ``sum (x - o)^2``; ``l1``: ``sum |x - o|``;
    ``bce``: of the sigmoid of every channel; ``ce``: of the softmax over channels; ``dice``: 1 -
    soft Dice over space, averaged over channels, of the sigmoid of one channel or the softmax of
    several.

    Args:
        kind: one of `KINDS`.
        x: data; in [0, 1] for the kinds `OF_LOGITS`, rows summing to one for ``ce``.
        output: logits for these kinds, a mean for the others.
        reduction: ``sum`` over voxels and mean over the batch; ``mean`` over voxels and batch
            (``l2_norm`` and ``dice``, which are no sums, are left as they are); ``none``: ``[b]``,
            summed over voxels.

    Raises:
        ValueError: an unknown kind or reduction.
    """
    if kind not in KINDS:
        raise ValueError(f"reconstruction kind '{kind}': choose one of {', '.join(KINDS)}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction '{reduction}': choose one of {', '.join(REDUCTIONS)}")
    x, output = x.astype(jnp.float32), output.astype(jnp.float32)
    if kind == "l2_norm":
        each = jnp.sqrt(per_sample((x - output) ** 2) + ROOT_FLOOR)
    elif kind == "l2_sq":
        each = per_sample((x - output) ** 2)
    elif kind == "l1":
        each = per_sample(jnp.abs(x - output))
    elif kind == "bce":
        each = per_sample(optax.sigmoid_binary_cross_entropy(output, x))
    elif kind == "ce":
        each = per_sample(optax.softmax_cross_entropy(output, x))
    else:
        each = soft_dice_loss(x, output)
    if reduction == "none":
        return each
    terms = 1 if kind in ("l2_norm", "dice") else x[0].size // (x.shape[-1] if kind == "ce" else 1)
    return each.mean() / (terms if reduction == "mean" else 1)


def soft_dice_loss(
    x: Float[Array, " b *s c"], logits: Float[Array, " b *s c"], smooth: float = 1e-5
) -> Float[Array, " b"]:
    """``1 - (2 sum p x + smooth) / (sum p + sum x + smooth)`` of each sample, channels averaged.

    Args:
        x: masks in [0, 1].
        logits: p is their sigmoid for one channel, their softmax for several.
        smooth: keeps an empty mask finite.
    """
    p = jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.nn.softmax(logits)
    space = tuple(range(1, x.ndim - 1))
    overlap, volume = (p * x).sum(space), (p + x).sum(space)
    return 1 - ((2 * overlap + smooth) / (volume + smooth)).mean(-1)


def log_likelihood(
    kind: str,
    x: Float[Array, " b *s c"],
    output: Float[Array, " b *s c"],
    log_scale: Float[Array, "..."] | float | int = 0.0,
) -> Float[Array, " b"]:
    """``log p(x|z)`` of each sample, normalised, summed over voxels, in nats and float32.

    Args:
        kind: ``bernoulli`` (logits), ``categorical`` (logits over channels), ``gaussian`` or
            ``laplace`` (means).
        x: data.
        output: of the decoder.
        log_scale: of ``gaussian``: log of the standard deviation, of ``laplace``: log of the mean
            absolute deviation; fixed or learned, broadcast over voxels.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in LIKELIHOODS:
        raise ValueError(f"likelihood '{kind}': choose one of {', '.join(LIKELIHOODS)}")
    if kind in ("bernoulli", "categorical"):
        return -reconstruction_loss("bce" if kind == "bernoulli" else "ce", x, output, "none")
    x, output = x.astype(jnp.float32), output.astype(jnp.float32)
    if kind == "gaussian":
        return per_sample(gaussian_log_density(x, output, 2 * jnp.asarray(log_scale)))
    scale = jnp.asarray(log_scale)
    return per_sample(-jnp.abs(x - output) * jnp.exp(-scale) - math.log(2) - scale)
