"""Weights of the losses of label-conditional synthesis."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Weights:
    """Of the losses.

    Attributes:
        gan: kind of the adversarial loss, see `losses.adversarial`.
        feature_matching: of the differences of the discriminator's maps.
        perceptual: of the differences of feature maps.
        kl: of the style's Kullback-Leibler divergence, nats a sample (mean over the batch).
        l1: of the absolute difference to the real image, with a style encoder that draws.
    """

    gan: str = "hinge"
    feature_matching: float = 10.0
    perceptual: float = 10.0
    kl: float = 0.8
    l1: float = 100.0
