"""Weights of GenSeg's losses over the stages of a training, and the terms between arrays."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.nets.genseg import Translations
from jaxmedgen.nets.genseg_encoder import Skip
from jaxmedgen.ops.collectives import all_sum


@dataclasses.dataclass(frozen=True)
class Weights:
    """Factors of the terms; those of the published configurations by default.

    Attributes:
        image: reconstruction of both domains.
        latent: codes of translated images against the codes they were made of.
        cycle: reconstruction after two translations.
        adversarial: both discriminators.
        segmentation: Dice.
        information: MINE's bound of the mutual information of c and u.
        features: the encoder's maps of reconstructions against those of the images.
        place: where translated slices seem to lie against where they do, by `locators`.
    """

    image: float | int = 50.0
    latent: float | int = 1.0
    cycle: float | int = 50.0
    adversarial: float | int = 3.0
    segmentation: float | int = 0.01
    information: float | int = 0.0
    features: float | int = 0.0
    place: float | int = 0.0

    def rescaled(self, total: float | int) -> "Weights":
        """The same ratios with a given sum.

        Raises:
            ValueError: all are zero.
        """
        old = dataclasses.asdict(self)
        if not sum(old.values()):
            raise ValueError("loss.weights are all zero: give one of them a value")
        return Weights(**{name: v * total / sum(old.values()) for name, v in old.items()})


class Stage(NamedTuple):
    """A part of the training.

    Attributes:
        first: its first step.
        weights: of the terms within it.
    """

    first: int
    weights: Weights


_NOTHING = Weights(**dict.fromkeys((f.name for f in dataclasses.fields(Weights)), 0.0))
AUTOENCODE = dataclasses.replace(_NOTHING, image=1.0)
SEGMENT = dataclasses.replace(_NOTHING, segmentation=1.0)


def four_stages(steps: int, weights: Weights = Weights()) -> tuple[Stage, ...]:
    """Autoencoding, then translation, then all terms, then segmentation: a quarter each.

    For skips by pooling places, and for a separate segmentation decoder.

    Args:
        steps: of the whole training.
        weights: of translation, in the second and third quarter. Segmentation has 1 where it has
            any, as published.
    """
    translate = dataclasses.replace(weights, segmentation=0.0)
    parts = (AUTOENCODE, translate, dataclasses.replace(weights, segmentation=1.0), SEGMENT)
    return tuple(Stage(i * steps // len(parts), weights) for i, weights in enumerate(parts))


def weights_at(
    stages: Sequence[Stage], step: Int[Array, ""] | int
) -> dict[str, Float[Array, ""] | float | int]:
    """The weights of a step by name; plain numbers where there is only one stage."""
    if len(stages) == 1:
        return dataclasses.asdict(stages[0].weights)
    number = sum((jnp.asarray(step) >= stage.first).astype(jnp.int32) for stage in stages[1:])
    table = [dataclasses.asdict(stage.weights) for stage in stages]
    return {name: jnp.asarray([float(row[name]) for row in table])[number] for name in table[0]}


def ever(stages: Sequence[Stage], name: str) -> bool:
    """Whether a term has weight in any stage."""
    return any(getattr(stage.weights, name) for stage in stages)


def l1(a: Float[Array, "*s"], b: Float[Array, "*s"]) -> Float[Array, ""]:
    """Mean absolute difference: the mean over samples of their means."""
    return jnp.mean(jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32)))


def feature_difference(made: Translations, again: tuple[Skip, ...]) -> Float[Array, ""]:
    """Mean L1 of the encoder's maps of reconstructions against those of the images.

    Args:
        made: translations, with the maps of both domains' images.
        again: maps of the images ``x_PA, x_AA, x_PP, ...``, one after the other.
    """
    b, value = len(made.x_pa), 0.0
    for level, skip in enumerate(again):
        for first, skips in ((b, made.skips_a), (2 * b, made.skips_p)):
            value = value + l1(skips[level].features, skip.features[first : first + b])
    return value / len(again)


def found_place(maps: Sequence[Float[Array, " b *_"]]) -> Float[Array, " b"]:
    """Where slices lie in their volumes, from 0 to 1, by the maps of a locator."""
    logits = [m.reshape(len(m), -1).mean(-1) for m in maps]
    return jax.nn.sigmoid(sum(logits) / len(logits))


def class_probabilities(logits: Float[Array, "b *s k"]) -> Float[Array, "b *s k1"]:
    """Probabilities of the background and of k foreground classes.

    The background's logit is 0; with one foreground class its probability is the sigmoid.
    """
    return jax.nn.softmax(jnp.pad(logits, [(0, 0)] * (logits.ndim - 1) + [(1, 0)]), axis=-1)


def remaining_contrast(
    made: Translations, present: Float[Array, "b *s c"], mask: Float[Array, " b *s"]
) -> Float[Array, ""]:
    """Contrast of the findings in ``x_PA``, in units of that in ``x_P``: 0 removed, 1 copied.

    Mean within the masks less mean outside, of the labelled samples; NaN without any. Long skips
    that let the common decoder copy the finding show here.

    Args:
        made: translations.
        present: the images with a finding.
        mask: 1 on the finding, 0 elsewhere and in samples without a known label.
    """
    known = (mask.reshape(mask.shape[0], -1).sum(-1) > 0).astype(jnp.float32)
    known = known.reshape(-1, *[1] * (mask.ndim - 1))
    inside, outside = mask, (1 - mask) * known

    def contrast(x):
        x = x.astype(jnp.float32).mean(-1)
        parts = [all_sum((w * x).sum()) / all_sum(w.sum()) for w in (inside, outside)]
        return parts[0] - parts[1]

    return jax.lax.stop_gradient(contrast(made.x_pa) / contrast(present))
