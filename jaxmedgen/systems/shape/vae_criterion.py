"""What a VAE of images minimises: the reconstruction loss, its likelihood, the weights, bounds."""

import dataclasses
import math
from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from jaxmedgen.losses.reconstruction import (
    KINDS,
    OF_LOGITS,
    REDUCTIONS,
    log_likelihood,
    reconstruction_loss,
)

RECONSTRUCTIONS = (*KINDS, "gaussian")


class Bounds(NamedTuple):
    """Of each sample, in nats.

    Attributes:
        elbo: mean over the draws.
        iwae: importance-weighted bound of all draws.
        log_likelihood: ``E_q log p(x|z)``, mean over the draws.
        kl: of each latent dimension.
    """

    elbo: Float[Array, " b"]
    iwae: Float[Array, " b"]
    log_likelihood: Float[Array, " b"]
    kl: Float[Array, " b d"]


@dataclasses.dataclass(frozen=True)
class Criterion:
    """What is minimised.

    Attributes:
        reconstruction: one of `losses.reconstruction.KINDS`, or ``gaussian``: the negative
            log-likelihood with one learned deviation.
        reduction: ``sum`` over voxels; ``mean`` multiplies beta by their number in effect.
        sigmoid: whether kinds of a mean see the sigmoid of the output, for data in [0, 1].
        beta: weight of the Kullback-Leibler term.
        warm_up: steps over which it rises.
        free_bits: nats a dimension that cost nothing.
    """

    reconstruction: str = "bce"
    reduction: str = "sum"
    sigmoid: bool = True
    beta: float | int = 1.0
    warm_up: int = 0
    free_bits: float | int = 0.0

    def __post_init__(self) -> None:
        for name, known in (("reconstruction", RECONSTRUCTIONS), ("reduction", REDUCTIONS[:2])):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"criterion.{name}='{value}': choose one of {', '.join(known)}")
        for name in ("beta", "warm_up", "free_bits"):
            if getattr(self, name) < 0:
                raise ValueError(f"criterion.{name}={getattr(self, name)}: give 0 or more")

    def mean(self, output: Float[Array, " b *s c"]) -> Float[Array, " b *s c"]:
        """The mean of the data that a decoder's output stands for."""
        kind = self.reconstruction
        if kind == "ce" or (kind == "dice" and output.shape[-1] > 1):
            return jax.nn.softmax(output)
        return jax.nn.sigmoid(output) if kind in OF_LOGITS or self.sigmoid else output

    def log_likelihood(
        self,
        x: Float[Array, " b *s c"],
        output: Float[Array, " b *s c"],
        log_deviation: Float[Array, ""] | float = 0.0,
    ) -> Float[Array, " b"]:
        """``log p(x|z)`` for which `beta` and the loss make a bound.

        ``l2_sq`` is a Gaussian of variance beta / 2, ``l1`` a Laplacian of scale beta.

        Args:
            x: data.
            output: of the decoder.
            log_deviation: of ``gaussian``.

        Raises:
            ValueError: the loss is no likelihood.
        """
        kind, beta = self.reconstruction, max(self.beta, 1e-12)
        if kind in ("bce", "ce"):
            return log_likelihood("bernoulli" if kind == "bce" else "categorical", x, output)
        mean = self.mean(output)
        if kind == "gaussian":
            return log_likelihood("gaussian", x, mean, log_deviation)
        if kind == "l2_sq":
            return log_likelihood("gaussian", x, mean, 0.5 * math.log(beta / 2))
        if kind == "l1":
            return log_likelihood("laplace", x, mean, math.log(beta))
        raise ValueError(
            f"criterion.reconstruction='{kind}' is no likelihood and has no bound: choose bce, ce, "
            "gaussian, l1 or l2_sq"
        )

    def distortion(
        self,
        x: Float[Array, " b *s c"],
        output: Float[Array, " b *s c"],
        log_deviation: Float[Array, ""] | float = 0.0,
    ) -> Float[Array, " b"]:
        """Reconstruction loss of each sample, summed over voxels unless `reduction` is ``mean``.

        Args:
            x: data.
            output: of the decoder.
            log_deviation: of ``gaussian``.
        """
        kind = self.reconstruction
        if kind == "gaussian":
            each = -self.log_likelihood(x, output, log_deviation)
        else:
            given = output if kind in OF_LOGITS else self.mean(output)
            each = reconstruction_loss(kind, x, given, "none")
        return each / x[0].size if self.reduction == "mean" else each
