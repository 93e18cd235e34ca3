"""How well a model segments, and how well it removes what it segments."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Bool, Float

from jaxmedgen.data.phantoms.cluttered_digits import ClutteredDigits
from jaxmedgen.data.sources import Source
from jaxmedgen.metrics.global_dice import GlobalDice
from jaxmedgen.metrics.segmentation import dice_score
from jaxmedgen.systems.base import CanPredict, CanTranslate, PlayerVariables

_BATCH = 50


@dataclasses.dataclass(frozen=True)
class TranslationScores:
    """Of one trained model on test images with a finding.

    Attributes:
        global_dice: soft Dice accumulated over all images.
        case_dice: mean Dice of the images at a threshold of one half.
        removal_error: mean absolute difference of ``x_PA`` to the true image without the finding,
            inside the masks, in units of that of ``x_P``; NaN for what does not translate,
            or where the true image is not known.
        removal_auc: area under the ROC curve of ``|x_P - x_PA|`` for the masks; NaN for what
            does not translate.
    """

    global_dice: float
    case_dice: float
    removal_error: float
    removal_auc: float


def score_digits(
    system: CanPredict, variables: PlayerVariables, digits: ClutteredDigits
) -> TranslationScores:
    """Scores on cluttered digits, whose images without the digit are known.

    Args:
        system: what segments, and may translate to its first domain.
        variables: by player.
        digits: test images.
    """
    return score_images(system, variables, digits, without=digits.without)


def score_images(
    system: CanPredict,
    variables: PlayerVariables,
    images: Source,
    *,
    without: Callable[[int], np.ndarray] | None = None,
    background: float | None = None,
) -> TranslationScores:
    """Scores on labelled images with a finding.

    Args:
        system: what segments, and may translate to its first domain.
        variables: by player.
        images: test images.
        without: the image ``[*s, c]`` of a number without its finding, where that is known.
        background: pixels with this value in all channels have no part in `removal_auc`.
    """
    predict = jax.jit(system.predict)
    translates = isinstance(system, CanTranslate)
    remove = jax.jit(lambda v, k, x: system.translate(v, k, x, system.domain_names[0]))
    running, cases = GlobalDice(images.info.num_classes), []
    changes, masks, before, after = [], [], [], []
    for start in range(0, len(images), _BATCH):
        numbers = range(start, min(start + _BATCH, len(images)))
        records = [images[i] for i in numbers]
        image, label = (np.stack([r[name] for r in records]) for name in ("image", "label"))
        probabilities = predict(variables, jnp.asarray(image))
        running = running.add(np.asarray(probabilities), label)
        cases.append(np.asarray(dice_score(probabilities, jnp.asarray(label))))
        if not translates:
            continue
        keys = jax.random.split(jax.random.key(start), len(image))
        removed = np.asarray(remove(variables, keys, jnp.asarray(image)))
        mask = label > 0
        counted = np.ones_like(mask) if background is None else (image != background).any(-1)
        changes.append(np.abs(image - removed).mean(-1)[counted])
        masks.append(mask[counted])
        if without is not None:
            truth = np.stack([without(i) for i in numbers])
            before.append(np.abs(image - truth)[mask])
            after.append(np.abs(removed - truth)[mask])
    error = area = float("nan")
    if before:
        error = float(np.concatenate(after).mean() / np.concatenate(before).mean())
    if changes:
        area = area_under_curve(np.concatenate(changes), np.concatenate(masks))
    return TranslationScores(running.value, float(np.nanmean(np.concatenate(cases))), error, area)


def area_under_curve(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative (ties half).

    Raises:
        ValueError: all values are of one kind.
    """
    count = int(positive.sum())
    if not 0 < count < len(positive):
        raise ValueError("area_under_curve: positives and negatives are needed")
    ranks = scipy.stats.rankdata(score)[positive].sum()
    return float((ranks - count * (count + 1) / 2) / (count * (len(positive) - count)))
