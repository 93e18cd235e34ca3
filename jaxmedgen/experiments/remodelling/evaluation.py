"""Scores of a classifier of whole shapes on its test subjects, written to the run's folder."""

import dataclasses
import pathlib

import jax
import numpy as np
from rich.console import Console

from jaxmedgen.data.sources import Source
from jaxmedgen.experiments.shape_generation import batch_of, in_chunks
from jaxmedgen.metrics.classification import ClassificationScores, classification_scores
from jaxmedgen.systems.base import CanClassify, PlayerVariables
from jaxmedgen.train.environment import write_json


def evaluate_classes(
    system: CanClassify,
    variables: PlayerVariables,
    source: Source,
    workdir: pathlib.Path,
    console: Console,
    step: int,
) -> ClassificationScores:
    """Writes ``classes.json`` (scores, and the probability of every subject) and prints a line.

    Args:
        system: a classifier of two classes.
        variables: of its trained state.
        source: subjects with a ``target``.
        workdir: of the run.
        console: where to print.
        step: of the state.

    Raises:
        ValueError: no subjects, or subjects without a class.
    """
    if not len(source) or "target" not in source[0]:
        raise ValueError(
            "the test subjects have no 'target' (their class): evaluate on the run's own subjects "
            "or on a folder with the table classes.csv (case,class)"
        )
    batch = batch_of(source, range(len(source)))
    classify = jax.jit(system.classify)
    found = in_chunks(
        lambda part: classify(variables, part["image"]), {"image": batch["image"]}, chunk=40
    )
    scores = classification_scores(found[:, 1], np.asarray(batch["target"]))
    cases = dict(zip(source.info.case_names, found[:, 1].tolist()))
    content = {"step": step, **dataclasses.asdict(scores), "probability": cases}
    write_json(workdir / "classes.json", content)
    low, high = scores.interval
    console.print(
        f"accuracy {scores.accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}), balanced by "
        f"class {scores.balanced_accuracy:.3f}, sensitivity {scores.sensitivity:.3f}, specificity "
        f"{scores.specificity:.3f}, AUC {scores.auc:.3f}"
    )
    return scores
