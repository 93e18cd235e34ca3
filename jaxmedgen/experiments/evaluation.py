"""Whole-volume prediction and scoring of a system that can segment."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.data.sources import Source, spacing_of
from jaxmedgen.experiments.shape_generation import batch_of, in_chunks
from jaxmedgen.metrics.regions import Scoring
from jaxmedgen.metrics.segmentation import evaluate_case, foreground_mean
from jaxmedgen.ops.sliding_window import InferenceAborted, sliding_window_inference
from jaxmedgen.systems.base import (
    CanPredict,
    CanValidate,
    PlayerVariables,
    evaluation_variables,
)
from jaxmedgen.train.interrupt import Interrupted, StopSignal
from jaxmedgen.train.state import TrainState

_CLASSES = Scoring()

Flips = Literal["", "logits", "probabilities"]
"""What is averaged over left-right mirroring."""

_TINY = 1e-18
"""Probability from which on a class counts as ruled out; its square is above float32's least."""

_CHUNK = 16
"""Subjects whose loss is computed at a time."""

Predict = Callable[[Float[np.ndarray, "*s c"]], Int[np.ndarray, "*s"]]

Scores = Mapping[str, Mapping[str, float]]
"""Class name -> metric name -> value, the background left out."""


@dataclasses.dataclass(frozen=True)
class CaseResult:
    """One subject's scores with what was compared.

    Attributes:
        case: name.
        scores: by class and metric, as `metrics.segmentation.evaluate_case` defines them.
        image: ``[*s, c]``.
        label: reference, ``[*s]``.
        prediction: ``[*s]``.
    """

    case: str
    scores: Scores
    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray

    @property
    def dice(self) -> float:
        """Mean Dice over the foreground classes, absent ones left out; NaN if all are."""
        return foreground_mean(self.scores)


class Predictor:
    """A compiled predictor; new weights do not compile it again."""

    def __init__(
        self,
        system: CanPredict,
        patch_size: tuple[int, ...] | None = None,
        overlap: float = 0.5,
        multiple: int = 1,
        mirrored: Sequence[int] = (),
    ) -> None:
        """Compiles lazily, at the first volume.

        Args:
            system: what predicts.
            patch_size: window of the sliding-window inference; None takes the volume whole.
            overlap: share by which neighbouring windows overlap.
            multiple: whole volumes are padded to a multiple of this many voxels.
            mirrored: class whose channel of a mirrored prediction takes each place, where classes
                stand for sides.
        """
        self._predict = jax.jit(system.predict)
        self._patch_size, self._overlap, self._multiple = patch_size, overlap, multiple
        self._mirrored = list(mirrored)

    def __call__(
        self,
        variables: PlayerVariables,
        image: Float[np.ndarray, "*s c"],
        stop: StopSignal | None = None,
    ) -> Int[np.ndarray, "*s"]:
        """Labels of one volume.

        Raises:
            Interrupted: `stop` was set between two windows.
        """
        return np.asarray(self._run(variables, image, "argmax", stop), np.int32)

    def probabilities(
        self,
        variables: PlayerVariables,
        image: Float[np.ndarray, "*s c"],
        *,
        flips: Flips = "",
    ) -> Float[np.ndarray, "*s k"]:
        """Class probabilities of one volume.

        Args:
            variables: by player.
            image: the volume.
            flips: averages over mirroring left-right: the ``logits``, as augmentation studies do,
                or the ``probabilities``, as SynthSeg does; "" takes the volume as it is.
        """
        result = np.asarray(self._run(variables, image, "mean"), np.float32)
        if flips:
            mirrored = np.asarray(self._run(variables, image[::-1].copy(), "mean"), np.float32)
            mirrored = mirrored[::-1]
            if self._mirrored:
                mirrored = mirrored[..., self._mirrored]
            result = mean_of_mirrored(result, mirrored, flips)
        return result

    def _run(self, variables, image, reduce, stop=None):
        size = self._patch_size or tuple(
            -(-n // self._multiple) * self._multiple for n in image.shape[:-1]
        )
        try:
            return sliding_window_inference(
                lambda patch: self._predict(variables, patch),
                image,
                size,
                overlap=self._overlap,
                reduce=reduce,
                abort=None if stop is None else lambda: bool(stop),
            )
        except InferenceAborted:
            raise Interrupted(
                "stopped while predicting: run the same command again to go on"
            ) from None


def mean_of_mirrored(
    first: Float[np.ndarray, "*s k"], second: Float[np.ndarray, "*s k"], flips: Flips
) -> Float[np.ndarray, "*s k"]:
    """Mean of two predictions; of logits it is the geometric mean of probabilities, normalised."""
    if flips == "probabilities":
        return 0.5 * (first + second)
    if flips != "logits":
        raise ValueError(f"flips='{flips}': choose logits or probabilities")
    product = np.sqrt(np.maximum(first, _TINY) * np.maximum(second, _TINY))
    return product / product.sum(-1, keepdims=True)


def evaluate_source(
    predictor: Predictor,
    variables: PlayerVariables,
    source: Source,
    stop: StopSignal | None = None,
    watch: Callable[[np.ndarray, np.ndarray], None] | None = None,
    scoring: Scoring = _CLASSES,
) -> Iterator[CaseResult]:
    """Predicts and scores every subject of a labelled source, one at a time.

    Millimetres are of a subject's own ``spacing`` where its record has one, else of the source's.

    Args:
        predictor: compiled.
        variables: by player.
        source: labelled subjects.
        stop: a signal catcher.
        watch: is shown the class probabilities and the label of every subject.
        scoring: what is scored, and what an absent structure counts.

    Raises:
        Interrupted: `stop` was set.
        ValueError: a subject has no image or no label.
    """
    for number, name in enumerate(source.info.case_names):
        record = source[number]
        missing = [key for key in ("image", "label") if key not in record]
        if missing:
            raise ValueError(f"subject {name} has no {' and no '.join(missing)} to evaluate")
        label = np.asarray(record["label"])
        if watch is None:
            prediction = predictor(variables, np.asarray(record["image"]), stop)
        else:
            probabilities = predictor.probabilities(variables, np.asarray(record["image"]))
            watch(probabilities, label)
            prediction = probabilities.argmax(-1).astype(np.int32)
        scores = evaluate_case(
            prediction,
            label,
            source.info.class_names,
            spacing_of(source, record),
            regions=scoring.regions,
            absent=scoring.absent,
        )
        yield CaseResult(name, scores, np.asarray(record["image"]), label, prediction)


def validator(
    predictor: Predictor, source: Source
) -> Callable[[TrainState, int, StopSignal], dict[str, float]]:
    """A validation function for `train.loop.fit`: mean Dice, over all and by class."""

    def validate(state: TrainState, step: int, stop: StopSignal) -> dict[str, float]:
        variables = evaluation_variables(state)
        results = list(evaluate_source(predictor, variables, source, stop))
        metrics = {"dice": _nanmean([r.dice for r in results])}
        for name in source.info.class_names[1:]:
            metrics[f"dice_{name}"] = _nanmean([r.scores[name]["dice"] for r in results])
        return metrics

    return validate


def loss_validator(
    system: CanValidate, source: Source
) -> Callable[[TrainState, int, StopSignal], dict[str, float]]:
    """A validation function for `train.loop.fit`: mean loss of held-out subjects.

    Where subjects have classes (``target``), every class counts the same however many there are, as
    in batches that are balanced by class.
    """
    batch = batch_of(source, range(len(source)))
    compiled = jax.jit(system.validation_loss)

    def validate(state: TrainState, step: int, stop: StopSignal) -> dict[str, float]:
        variables = evaluation_variables(state)
        losses = in_chunks(lambda part: compiled(variables, part), batch, chunk=_CHUNK)
        target = np.asarray(batch.get("target", np.zeros(len(losses), np.int32)))
        return {"loss": float(np.mean([losses[target == k].mean() for k in np.unique(target)]))}

    return validate


def _nanmean(values: list[float]) -> float:
    kept = [v for v in values if not np.isnan(v)]
    return float(np.mean(kept)) if kept else float("nan")
