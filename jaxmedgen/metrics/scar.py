"""Measures of myocardial scar: Dice by slice and by subject, volume, share of the myocardium.

As in late-enhancement studies (Lustermans et al. on EMIDEC): a scar lies in the myocardium, whose
volume includes it. Scar-free slices make Dice by slice jump between 0 and 1; by the convention of
`EMPTY` an empty prediction of an empty reference counts 1, and detection is scored apart.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from jaxmedgen.metrics.agreement import BlandAltman, bland_altman, intraclass_correlation

EMPTY = 1.0
"""Dice of an empty prediction of a slice or subject without scar."""


@dataclasses.dataclass(frozen=True)
class ScarScores:
    """Scar against reference, over subjects.

    Attributes:
        dice_slice: mean Dice over all slices.
        dice_subject: mean over subjects of the Dice of all their slices together.
        sensitivity: share of subjects with scar in which some is found; NaN without such subjects.
        specificity: share of scar-free subjects in which none is found; NaN likewise.
        volume: agreement of scar volumes in mm^3.
        share: agreement of scar volumes in per cent of the myocardium.
        volume_icc: ICC(2,1) of the volumes.
        share_icc: ICC(2,1) of the shares.
    """

    dice_slice: float
    dice_subject: float
    sensitivity: float
    specificity: float
    volume: BlandAltman
    share: BlandAltman
    volume_icc: float
    share_icc: float


def scar_dice(prediction: Int[np.ndarray, "*s"], reference: Int[np.ndarray, "*s"]) -> float:
    """Dice of two masks (non-zero is scar); `EMPTY` where both are empty."""
    predicted, true = prediction != 0, reference != 0
    total = int(predicted.sum() + true.sum())
    return 2 * int((predicted & true).sum()) / total if total else EMPTY


def scar_scores(
    predictions: Sequence[Int[np.ndarray, "*s"]],
    references: Sequence[Int[np.ndarray, "*s"]],
    subjects: Sequence[str],
    spacing: Sequence[float | int],
    *,
    scar: int = 3,
    myocardium: Sequence[int] = (2, 3),
) -> ScarScores:
    """Scores label maps of slices (or volumes).

    Args:
        predictions: label maps.
        references: label maps of the same shapes.
        subjects: subject of each map.
        spacing: voxel size in mm; slices count as 1 mm thick if it has two numbers.
        scar: label value of scar.
        myocardium: label values of all myocardium, scar included.

    Raises:
        ValueError: unequal numbers, or fewer than two subjects.
    """
    if not len(predictions) == len(references) == len(subjects):
        raise ValueError(
            f"{len(predictions)} predictions, {len(references)} references and {len(subjects)} "
            "subjects: give one of each a slice"
        )
    by_slice, by_subject, measured = [], [], []
    voxel = float(np.prod(spacing))
    for subject in dict.fromkeys(subjects):
        pairs = [(p, r) for p, r, s in zip(predictions, references, subjects) if s == subject]
        masks = [(np.equal(p, scar), np.equal(r, scar)) for p, r in pairs]
        by_slice += [scar_dice(p.astype(int), r.astype(int)) for p, r in masks]
        joined = [np.concatenate([m[side].ravel() for m in masks]) for side in (0, 1)]
        by_subject.append(scar_dice(joined[0].astype(int), joined[1].astype(int)))
        muscle = [sum(int(np.isin(x[side], myocardium).sum()) for x in pairs) for side in (0, 1)]
        measured.append([(int(j.sum()), m) for j, m in zip(joined, muscle)])
    counts = np.array(measured, np.float64)  # [subjects, prediction | reference, scar | muscle]
    share = 100 * counts[..., 0] / np.maximum(counts[..., 1], 1)
    volume = counts[..., 0] * voxel
    has, found = counts[:, 1, 0] > 0, counts[:, 0, 0] > 0
    return ScarScores(
        dice_slice=float(np.mean(by_slice)),
        dice_subject=float(np.mean(by_subject)),
        sensitivity=float(found[has].mean()) if has.any() else float("nan"),
        specificity=float((~found[~has]).mean()) if (~has).any() else float("nan"),
        volume=bland_altman(volume[:, 0], volume[:, 1]),
        share=bland_altman(share[:, 0], share[:, 1]),
        volume_icc=intraclass_correlation(volume[:, 0], volume[:, 1]),
        share_icc=intraclass_correlation(share[:, 0], share[:, 1]),
    )
