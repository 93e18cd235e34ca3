"""Mixing for classifiers of whole images: mixup and box cutmix, with the weight of both classes.

The image is mixed as in `mixing.py`; its class is not, but stays a pair of classes with a weight,
for the loss ``w loss(y_A) + (1 - w) loss(y_B)`` (`losses.mixed_classes`). Cutmix's weight is the
share of the image that is really left, boxes being clipped at the border. Moment exchange
(`nets.moment_exchange`) has a constant weight and takes the same loss.

Sources: Zhang et al. 2018 (mixup); Yun et al. 2019 (CutMix); Li et al. 2021 (moment exchange).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.augment.mixing import Mixing, box_region
from jaxmedgen.augment.pairing import draw_partners, take_partners
from jaxmedgen.augment.spatial import Parameters


class MixedClasses(NamedTuple):
    """Mixed images with the classes that they show.

    Attributes:
        image: mixed.
        target: class of the sample itself.
        other: class of its partner.
        weight: of `target`, 0 to 1.
    """

    image: Float[Array, " b *s c"]
    target: Int[Array, " b"]
    other: Int[Array, " b"]
    weight: Float[Array, " b"]


def mix_classes(
    settings: Mixing,
    parameters: Parameters,
    image: Float[Array, " b *s c"],
    target: Int[Array, " b"],
) -> MixedClasses:
    """Mixes each image of the global batch with its partner's.

    Args:
        settings: mixup, box cutmix, or both.
        parameters: from `mixing.sample_mixing`.
        image: images.
        target: their classes.

    Raises:
        ValueError: regions of lesions, which images without label maps do not have.
    """
    if settings.lesion_aware or (settings.cutmix and settings.cutmix.region != "box"):
        raise ValueError("mixing by lesions needs label maps: classifiers take box cutmix or mixup")
    partner = draw_partners(parameters["score"], None)
    other_image, other = take_partners(image, partner), take_partners(target, partner)
    weight, space = jnp.ones(target.shape, jnp.float32), image.shape[1:-1]
    mixed = image
    if settings.cutmix is not None:
        region = box_region(parameters, space)
        mixed = jnp.where(region[..., None], other_image, image)
        weight = 1 - region.mean(tuple(range(1, region.ndim)), dtype=jnp.float32)
    if settings.mixup is not None:
        # A sample that draws both is cut-mixed: its mixup weight is 1.
        own = parameters["weight"].reshape(-1, *(1,) * (image.ndim - 1))
        mixed = jnp.where(own == 1, mixed, own * mixed + (1 - own) * other_image)
        weight = weight * parameters["weight"]
    return MixedClasses(mixed, target, other, weight)
