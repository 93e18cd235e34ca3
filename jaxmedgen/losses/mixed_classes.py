"""Classification of images that are mixed of two: mixup, cutmix, moment exchange."""

import optax
from jaxtyping import Array, Float, Int


def mixed_cross_entropy(
    logits: Float[Array, " b k"],
    target: Int[Array, " b"],
    other: Int[Array, " b"],
    weight: Float[Array, " b"] | float | int,
) -> Float[Array, " b"]:
    """``w CE(logits, y_A) + (1 - w) CE(logits, y_B)`` of each sample.

    The same as cross-entropy with the mixed one-hot labels, since it is linear in them; other
    losses (Dice) are not.

    Args:
        logits: scores of the mixed images.
        target: class of the sample itself.
        other: class of its partner.
        weight: of `target`; constant for moment exchange.
    """
    own, partner = (
        optax.softmax_cross_entropy_with_integer_labels(logits, classes)
        for classes in (target, other)
    )
    return weight * own + (1 - weight) * partner
