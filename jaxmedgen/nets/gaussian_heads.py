"""Gaussians of a latent vector as networks give them: posteriors, learned priors, conditions.

A Gaussian is a mean and a log-variance ``[b, d]``, both float32 whatever the trunk's precision.
Posteriors start as N(mu, I): the log-variance has zero weights. Conditional priors: Sohn, Lee &
Yan, "Learning structured output representation using deep conditional generative models", 2015;
precision-weighted merging: Sonderby, Raiko, Maaloe, Sonderby & Winther, "Ladder variational
autoencoders", 2016, eq. 17-19.
"""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxmedgen.nets.layers import Conv, Dtype

Gaussian = tuple[Float[Array, " b d"], Float[Array, " b d"]]
ConditionKind = Literal["class", "vector", "image"]

LIMIT = 10.0
"""Largest absolute log-variance."""
_KNEE = 8.0
"""Up to here a log-variance is left alone."""


def bounded_log_variance(raw: Float[Array, " *s"]) -> Float[Array, " *s"]:
    """Log-variance in (-10, 10): the input up to 8, then ever slower, with a gradient everywhere.

    A hard clip would have none beyond the limits, and a collapsed or exploded posterior stay so.
    """
    room = LIMIT - _KNEE
    over = jnp.maximum(jnp.abs(raw) - _KNEE, 0.0) / room
    return jnp.clip(raw, -_KNEE, _KNEE) + jnp.sign(raw) * room * over / (1 + over)


class GaussianHead(nn.Module):
    """Two linear layers: mean and log-variance.

    Attributes:
        size: dimensions of the latent vector.
        deviation: of the initial normal weights of both layers; with 0 the mean has LeCun's and the
            log-variance none.
    """

    size: int
    deviation: float | int = 0.0

    @nn.compact
    def __call__(self, features: Float[Array, " b k"]) -> Gaussian:
        """Mean and bounded log-variance, which starts at (or with `deviation` about) 0."""
        features = features.astype(jnp.float32)
        inits = nn.initializers.lecun_normal(), nn.initializers.zeros
        if self.deviation:
            inits = (nn.initializers.normal(self.deviation),) * 2
        mean = nn.Dense(self.size, kernel_init=inits[0], name="mean")(features)
        raw = nn.Dense(self.size, kernel_init=inits[1], name="log_variance")(features)
        return mean, bounded_log_variance(raw)


class LearnedPrior(nn.Module):
    """Prior of a latent vector given a condition: dense ELU layers, then a `GaussianHead`.

    Attributes:
        size: dimensions of the latent vector.
        hidden: widths of the dense layers.
    """

    size: int
    hidden: Sequence[int] = (128,)

    @nn.compact
    def __call__(self, condition: Float[Array, " b k"]) -> Gaussian:
        """Mean and log-variance."""
        x = condition.astype(jnp.float32)
        for width in self.hidden:
            x = jax.nn.elu(nn.Dense(width)(x))
        return GaussianHead(self.size)(x)


def merge_gaussians(
    mean: Float[Array, " b d"],
    log_variance: Float[Array, " b d"],
    prior_mean: Float[Array, " b d"],
    prior_log_variance: Float[Array, " b d"],
) -> Gaussian:
    """The normalised product of two Gaussians, each weighing as its precision.

    ``1/s^2 = 1/s1^2 + 1/s2^2`` and ``mu = s^2 (mu1/s1^2 + mu2/s2^2)``, computed in log space: no
    precision is formed that could overflow.

    Args:
        mean: of the first.
        log_variance: of the first.
        prior_mean: of the second.
        prior_log_variance: of the second.
    """
    merged = -jnp.logaddexp(-log_variance, -prior_log_variance)
    weights = jnp.exp(merged - log_variance), jnp.exp(merged - prior_log_variance)
    return weights[0] * mean + weights[1] * prior_mean, merged


class ConditionEmbed(nn.Module):
    """A vector of what a sample is conditioned on.

    ``class``: one-hot, then a linear layer (an embedding) where `features` asks for one;
    ``vector``: as it is, or a dense ELU layer; ``image``: strided convolutions of three taps, each
    halving the axes, and a dense ELU layer. Several conditions are embedded one by one and
    concatenated.

    Attributes:
        kind: what the condition is.
        classes: number of classes of ``class``.
        features: length of the vector; 0 leaves a class one-hot and a vector as it is.
        widths: channels of the convolutions of ``image``.
        dtype: precision of the convolutions.
    """

    kind: ConditionKind
    classes: int = 0
    features: int = 0
    widths: Sequence[int] = (16, 32, 64)
    dtype: Dtype = None

    @nn.compact
    def __call__(self, condition: Shaped[Array, " b *s"]) -> Float[Array, " b k"]:
        """Conditions ``[b]`` (class), ``[b, k]`` (vector) or ``[b, *s, c]`` (image) to vectors.

        A class that does not exist has no embedding; find it with `check_classes` before.

        Raises:
            ValueError: settings without what the kind needs.
        """
        if self.kind == "class":
            if self.classes < 2:
                raise ValueError(f"ConditionEmbed: classes={self.classes}: give at least 2")
            x = jax.nn.one_hot(condition, self.classes)
            return nn.Dense(self.features, use_bias=False)(x) if self.features else x
        x = condition.astype(jnp.float32)
        if self.kind == "image":
            if not self.features:
                raise ValueError("ConditionEmbed: features=0 for an image: give their number")
            for width in self.widths:
                x = jax.nn.elu(Conv(width, 3, stride=2, dtype=self.dtype)(x))
            x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        return jax.nn.elu(nn.Dense(self.features)(x)) if self.features else x


def check_classes(labels: Int[np.ndarray, " *s"], classes: int, name: str = "condition") -> None:
    """Refuses labels that are no classes, which one-hot vectors would silently turn into zeros.

    Args:
        labels: on the host.
        classes: their number.
        name: of the argument, for the message.

    Raises:
        ValueError: a label below 0 or from `classes` on.
    """
    wrong = np.unique(labels[(labels < 0) | (labels >= classes)])
    if wrong.size:
        raise ValueError(
            f"{name} has labels {wrong[:5].tolist()}: give classes from 0 to {classes - 1}"
        )
