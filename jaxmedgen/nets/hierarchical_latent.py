"""A latent vector in levels, each with a prior given its context and all levels before it.

    p(z_k | z_<k, c_k),  q(z_k | h, z_<k, c_k),  k = 1..K

The sum of ``E_{q(z_<k)} KL[q(z_k|.) || p(z_k|.)]`` over levels is the Kullback-Leibler term of the
bound; gradients flow into the priors and, through sampled z_<k, into the levels before. With one
level it is an ordinary conditional VAE.
"""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.losses.variational import gaussian_kl
from jaxmedgen.nets.gaussian_heads import LearnedPrior
from jaxmedgen.nets.variational import sample_gaussian

PriorKind = Literal["learned", "standard"]
LevelGaussian = tuple[Float[Array, " b _"], Float[Array, " b _"]]
"""Mean and log-variance of one level."""


class HierarchicalLatent(nn.Module):
    """Priors and posteriors of all levels.

    Attributes:
        sizes: dimensions of each level.
        hidden: width of the dense layer of every prior and posterior.
        prior: ``learned``, or ``standard`` for N(0, I) at every level.
    """

    sizes: Sequence[int]
    hidden: int = 128
    prior: PriorKind = "learned"

    @nn.compact
    def __call__(
        self,
        contexts: Sequence[Float[Array, " b ..."]],
        noise: Float[Array, " b d"],
        features: Float[Array, " b f"] | None = None,
    ) -> tuple[Float[Array, " b d"], tuple[LevelGaussian, ...], tuple[LevelGaussian, ...]]:
        """Draws level by level: from the posteriors where there are features, else the priors.

        Args:
            contexts: one vector ``[b, c_k]`` a level.
            noise: standard normal, all levels side by side, so that no two levels share numbers; 0
                takes the means.
            features: of what is to be generated, or None to generate.

        Returns:
            All levels side by side, posteriors (none without features), priors.

        Raises:
            ValueError: not one context a level.
        """
        if len(contexts) != len(self.sizes):
            raise ValueError(
                f"HierarchicalLatent: {len(contexts)} contexts for {len(self.sizes)} levels"
            )
        drawn, posteriors, priors, start = [], [], [], 0
        for level, (size, context) in enumerate(zip(self.sizes, contexts)):
            given = jnp.concatenate([*drawn, context], -1)
            if self.prior == "learned":
                gaussian = LearnedPrior(size, (self.hidden,), name=f"prior{level}")(given)
            else:
                zero = jnp.zeros((context.shape[0], size))
                gaussian = (zero, zero)
            priors.append(gaussian)
            if features is not None:
                seen = jnp.concatenate([features, given], -1)
                gaussian = LearnedPrior(size, (self.hidden,), name=f"posterior{level}")(seen)
                posteriors.append(gaussian)
            part = noise[:, start : start + size]
            drawn.append(sample_gaussian(part, *gaussian))
            start += size
        return jnp.concatenate(drawn, -1), tuple(posteriors), tuple(priors)


def level_divergences(
    posteriors: Sequence[LevelGaussian], priors: Sequence[LevelGaussian]
) -> tuple[Float[Array, " b"], ...]:
    """Kullback-Leibler term of each level, summed over its dimensions, in nats a sample."""
    return tuple(
        gaussian_kl(*posterior, *prior).sum(-1) for posterior, prior in zip(posteriors, priors)
    )
