"""Blinded reader studies: sheets to fill in, and their scores.

Half of the images are real, half synthetic, in an order of their own for every reader; file names
tell nothing. All readers see the same pairs, half of them with the real image on the left.
Readers answer either which of a pair is real (two-alternative forced choice) or how
real one image looks, from 1 (surely synthetic) to 5 (surely real). Every image is shown from its
0.5th to its 99.5th percentile. The key stays with the one who scores.
"""

import csv
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from jaxmedgen.metrics.reader_study import fleiss_kappa, score_reader
from jaxmedgen.report.pictures import montage, save_png
from jaxmedgen.report.realism import grey_planes
from jaxmedgen.train.environment import write_json

Design = Literal["pairs", "scale"]

IMAGES = 50
"""Real images shown, and synthetic ones."""


def write_sheets(
    real: Float[np.ndarray, "n *s c"],
    synthetic: Float[np.ndarray, "m *s c"],
    folder: pathlib.Path,
    *,
    readers: int = 3,
    design: Design = "scale",
    count: int = IMAGES,
    seed: int = 0,
) -> pathlib.Path:
    """Writes ``READER/NNN.png``, ``READER/answers.csv`` for each reader, and ``key.json``.

    Args:
        real: real images; the first channel, volumes by their middle slice.
        synthetic: synthetic images.
        folder: of the study; give readers their own folder, not the key.
        readers: how many.
        design: ``pairs`` (left or right is real) or ``scale`` (1 to 5).
        count: images of each kind, fewer where there are not so many.
        seed: of the choice and of the orders.

    Returns:
        Path of the key.

    Raises:
        ValueError: no images or readers.
    """
    count = min(count, len(real), len(synthetic))
    if count < 1 or readers < 1:
        raise ValueError(f"{count} images of each kind for {readers} readers: give at least 1")
    rng = np.random.default_rng(seed)
    chosen = [s[np.sort(rng.permutation(len(s))[:count])] for s in (real, synthetic)]
    # Each in its own greys: on one scale for both sets one might be flat, which would tell it.
    planes = [grey_planes([image[..., 0]])[0] for images in chosen for image in images]
    partners = rng.permutation(count)
    left = rng.permutation(count) < (count + int(rng.integers(2))) // 2
    key: dict[str, Any] = {"design": design, "count": count, "readers": {}}
    for number in range(readers):
        name = f"reader{number + 1}"
        if design == "scale":
            order = rng.permutation(2 * count)
            shown = [planes[i] for i in order]
            truth = [bool(i < count) for i in order]
            items = [int(i) for i in order]
        else:
            order = rng.permutation(count)
            shown = [
                montage([planes[i], planes[count + partners[i]]][:: 1 if left[i] else -1], gap=12)
                for i in order
            ]
            truth = [bool(left[i]) for i in order]  # whether the left one is real
            items = [int(i) for i in order]
        for k, picture in enumerate(shown):
            save_png(folder / name / f"{k + 1:03d}.png", picture)
        with (folder / name / "answers.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            question = "real: left or right" if design == "pairs" else "1 synthetic ... 5 real"
            writer.writerow(["image", question])
            writer.writerows([f"{k + 1:03d}", ""] for k in range(len(shown)))
        key["readers"][name] = {"real": truth, "items": items}
    write_json(folder / "key.json", key)
    return folder / "key.json"


def score_sheets(folder: pathlib.Path) -> Mapping[str, Any]:
    """Scores the filled sheets of a study: ``readers`` by name, and Fleiss' ``kappa``.

    On the scale 4 and 5 count as "real", 1 and 2 as "synthetic"; 3 counts as wrong. Sheets without
    any answer are left out.

    Raises:
        ValueError: no filled sheet, or answers that cannot be read.
    """
    key = json.loads((folder / "key.json").read_text())
    scores, agreement = {}, []
    for name, sheet in key["readers"].items():
        answers = _read_answers(folder / name / "answers.csv", key["design"])
        if answers is None:
            continue
        truth = np.asarray(sheet["real"])
        if len(answers) != len(truth):
            raise ValueError(f"{folder / name}: {len(answers)} answers for {len(truth)} images")
        undecided = answers == 0
        says_real = np.where(undecided, ~truth, answers > 0)
        scores[name] = score_reader(says_real, truth, pairs=key["design"] == "pairs")
        # The same item has another place in every reader's order.
        order = np.argsort(sheet["items"])
        agreement.append(says_real[order].astype(int))
    if not scores:
        raise ValueError(f"no sheet in {folder} is filled in: write answers into answers.csv")
    kappa = fleiss_kappa(np.stack(agreement)) if len(agreement) > 1 else float("nan")
    return {"readers": scores, "kappa": kappa}


def _read_answers(path: pathlib.Path, design: Design) -> np.ndarray | None:
    """1 for "real" (or left), -1 for the other, 0 for undecided; None for an empty sheet."""
    with path.open(newline="") as file:
        rows = [row[1].strip().lower() for row in list(csv.reader(file))[1:] if row]
    if not any(rows):
        return None
    known: Mapping[str, int] = (
        {"left": 1, "l": 1, "right": -1, "r": -1}
        if design == "pairs"
        else {"1": -1, "2": -1, "3": 0, "4": 1, "5": 1}
    )
    wrong = sorted({row for row in rows if row not in known})
    if wrong:
        raise ValueError(f"{path}: answers {wrong[:3]} must be one of {', '.join(known)}")
    return np.array([known[row] for row in rows])


def describe(scores: Mapping[str, Any]) -> Sequence[str]:
    """A line for each reader and one for their agreement."""
    lines = []
    for name, score in scores["readers"].items():
        a = score.accuracy
        lines.append(
            f"{name}: {a.mean:.2f} right [{a.low:.2f}, {a.high:.2f}] of {a.count}, "
            f"d' = {score.sensitivity_index:.2f}, p = {score.p_value:.3f}"
        )
    return [*lines, f"Fleiss' kappa {scores['kappa']:.2f}"]
