"""How much better a segmenter is on what it has seen, and how well its probabilities are meant."""

import dataclasses

import numpy as np

from jaxmedgen.data.sources import Source
from jaxmedgen.experiments.evaluation import Predictor, evaluate_source
from jaxmedgen.metrics.calibration import expected_calibration_error
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.train.interrupt import StopSignal


@dataclasses.dataclass(frozen=True)
class FitQuality:
    """Of one training.

    Attributes:
        training_dice: mean foreground Dice of the training subjects, as they are; less the test
            subjects' it is the generalisation gap.
        ece: expected calibration error of the test subjects' voxels, mean over subjects.
    """

    training_dice: float
    ece: float


def fit_quality(
    predict: Predictor,
    variables: PlayerVariables,
    trained_on: Source,
    test: Source,
    stop: StopSignal | None = None,
) -> FitQuality:
    """Scores training subjects, and the probabilities of test subjects."""
    dice = [result.dice for result in evaluate_source(predict, variables, trained_on, stop)]
    errors = []
    for number in range(len(test)):
        record = test[number]
        probability = predict.probabilities(variables, np.asarray(record["image"]))
        errors.append(expected_calibration_error(probability, np.asarray(record["label"])))
    return FitQuality(float(np.nanmean(dice)), float(np.mean(errors)))
