"""What the ladder VAE of shapes minimises: settings, and the Dice of every phase or organ."""

import dataclasses

import jax
import optax
from jaxtyping import Array, Float

SMOOTH = 1e-5
"""Added to numerator and denominator of the Dice."""


@dataclasses.dataclass(frozen=True)
class ShapeCriterion:
    """What is minimised.

    Attributes:
        divergence: alpha of each level, lowest first.
        classification: beta; 0 trains no classifier.
        ramp: lambda at the first step.
        ramp_steps: over which lambda rises to 1; 0 for none.
        reconstruction: whether shapes are decoded at all; False is a plain classifier.
        stochastic: False decodes and classifies means (an autoencoder).
        joint: whether the classifier's loss reaches the encoder. Otherwise it is trained beside a
            VAE that knows no classes.
        predict_from: what the classifier sees in training, ``mean`` or ``sample``; means at test.
        voxels: weight of the voxels' mean cross-entropy beside the Dice; 0 in the published models.
            Dice alone may stall at a filled ventricle, where the sigmoid has no slope left.
    """

    divergence: tuple[float | int, ...]
    classification: float | int = 1.0
    ramp: float | int = 1.0
    ramp_steps: int = 0
    reconstruction: bool = True
    stochastic: bool = True
    joint: bool = True
    predict_from: str = "mean"
    voxels: float | int = 0.0

    def __post_init__(self) -> None:
        if self.predict_from not in ("mean", "sample"):
            raise ValueError(f"criterion.predict_from='{self.predict_from}': choose mean or sample")
        if min(*self.divergence, self.classification, self.voxels) < 0:
            raise ValueError(
                f"criterion.divergence={self.divergence}, criterion.classification="
                f"{self.classification}, criterion.voxels={self.voxels}: weights are 0 or more"
            )
        if not (self.reconstruction or (self.classification and self.joint)):
            raise ValueError("criterion.reconstruction=False leaves nothing to train the encoder")


def soft_dice(x: Float[Array, " b *s c"], p: Float[Array, " b *s c"]) -> Float[Array, " b c"]:
    """``(2 sum x p + s) / (sum x + sum p + s)`` over the space of each sample and channel."""
    space = tuple(range(1, x.ndim - 1))
    return (2 * (x * p).sum(space) + SMOOTH) / (x.sum(space) + p.sum(space) + SMOOTH)


def shape_loss(
    x: Float[Array, " b *s c"], logits: Float[Array, " b *s c"], voxels: float | int = 0.0
) -> tuple[Float[Array, " b"], Float[Array, " b c"]]:
    """``sum_c [1 - Dice_c + voxels * mean cross-entropy of the channel's voxels]``, and the Dice.

    Args:
        x: shapes in [0, 1].
        logits: of the decoded ones.
        voxels: `ShapeCriterion.voxels`.
    """
    dice = soft_dice(x, jax.nn.sigmoid(logits))
    loss = (1 - dice).sum(-1)
    if voxels:
        entropy = optax.sigmoid_binary_cross_entropy(logits, x)
        loss = loss + voxels * entropy.mean(tuple(range(1, x.ndim - 1))).sum(-1)
    return loss, dice
