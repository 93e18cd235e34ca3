"""What is drawn for mixing inside the network: partners and weights (`nets/unet.py` mixes).

Partners come from the samples that the network sees together: with gradient accumulation from the
same micro-batch, on several devices from the whole of it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.augment.draws import fold_keys, uniform_table
from jaxmedgen.augment.mixing import Mixup
from jaxmedgen.augment.pairing import draw_partners, own_positions
from jaxmedgen.nets.moment_exchange import MomentExchange
from jaxmedgen.nets.unet import FeatureMixup

_MOMENTS, _MIXUP, _LEVEL = 1001, 1002, 1003  # folded into keys that others use too


def sample_moment_partners(
    settings: MomentExchange, keys: Key[Array, " b"], strength: Float[Array, " b"] | float = 1.0
) -> Int[Array, " b"]:
    """Position in the global batch of the sample that each one takes its moments from.

    Args:
        settings: with the probability; a sample that is left out is its own partner.
        keys: one key a sample.
        strength: factor on the probability.
    """
    u = uniform_table(fold_keys(keys, _MOMENTS), 1, 2)[:, 0]
    partner = draw_partners(u[:, 0])
    return jnp.where(u[:, 1] < settings.p * strength, partner, own_positions(keys.shape[0]))


def sample_feature_mixup(
    settings: Mixup,
    keys: Key[Array, " b"],
    key: Key[Array, ""],
    levels: int,
    strength: Float[Array, " b"] | float = 1.0,
) -> FeatureMixup:
    """Partners and weights of a batch, and one level for all of it.

    Args:
        settings: of the weights.
        keys: one key a sample.
        key: of the batch, the same on every device.
        levels: of the encoder.
        strength: factor on the probability.
    """
    u = uniform_table(fold_keys(keys, _MIXUP), 1, 2)[:, 0]
    draw = jax.vmap(lambda k: jax.random.beta(k, settings.alpha, settings.alpha))
    weight = draw(fold_keys(keys, _MIXUP + 10))
    if settings.dominant:
        weight = jnp.maximum(weight, 1 - weight)
    return FeatureMixup(
        partner=draw_partners(u[:, 0]),
        weight=jnp.where(u[:, 1] < settings.p * strength, weight, 1.0),
        level=jax.random.randint(jax.random.fold_in(key, _LEVEL), (), 0, levels + 1),
    )
