"""Scores of the scar experiment: Dice, detection, volumes, against the direct network."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmedgen.data.sources import Source
from jaxmedgen.data.splits import patient_of
from jaxmedgen.experiments.synthetic.scar import MYOCARDIUM, SCAR, dice_by_subject
from jaxmedgen.experiments.synthetic.setting import Setting
from jaxmedgen.metrics.agreement import bland_altman, intraclass_correlation
from jaxmedgen.metrics.scar import ScarScores, scar_scores
from jaxmedgen.metrics.statistics import PairedDifference, holm, paired_difference, wilcoxon_test
from jaxmedgen.report.pictures import montage, save_png, three_planes
from jaxmedgen.train.environment import write_json

Results = Mapping[str, Sequence[Mapping[str, Any]]]

SHOWN = 3
"""Test slices in the picture."""


def dice_matrix(
    results: Sequence[Mapping[str, Any]], test: Source, values: Sequence[int]
) -> np.ndarray:
    """Dice of some label values, ``[seeds, subjects]``."""
    rows = [dice_by_subject(r["predictions"].astype(np.int32), test, values) for r in results]
    return np.array([[row[subject] for subject in rows[0]] for row in rows])


def scar_difference(
    results: Results, test: Source, arm: str, reference: str, values: Sequence[int] = (SCAR,)
) -> PairedDifference:
    """Dice by subject of an arm less that of another, paired by subject."""
    return paired_difference(
        dice_matrix(results[arm], test, values), dice_matrix(results[reference], test, values)
    )


def arm_scores(results: Sequence[Mapping[str, Any]], test: Source) -> ScarScores:
    """Scar measures of one arm: Dice and detection are means over its seeds.

    Limits of agreement and ICC are those of a subject's mean volume over the seeds: predictions of
    one subject by several networks are no further subjects.
    """
    subjects = [patient_of(name) for name in test.info.case_names]
    labels = [np.asarray(test[i]["label"]) for i in range(len(test))]
    predicted = [list(r["predictions"].astype(np.int32)) for r in results]
    classes = {"scar": SCAR, "myocardium": (MYOCARDIUM, SCAR)}
    scores = [scar_scores(p, labels, subjects, test.info.spacing, **classes) for p in predicted]
    names = ("dice_slice", "dice_subject", "sensitivity", "specificity")
    voxel = float(np.prod(test.info.spacing))
    seeds = np.array([_amounts(p, subjects, voxel) for p in predicted])
    ours, truth = seeds.mean(0), _amounts(labels, subjects, voxel)
    volume, share = zip(ours.T, truth.T)
    return ScarScores(
        **{name: float(np.mean([getattr(s, name) for s in scores])) for name in names},
        volume=bland_altman(*volume),
        share=bland_altman(*share),
        volume_icc=intraclass_correlation(*volume),
        share_icc=intraclass_correlation(*share),
    )


def _amounts(labels: Sequence[np.ndarray], subjects: Sequence[str], voxel: float) -> np.ndarray:
    """Scar in mm^3 and in per cent of the myocardium, ``[subjects, 2]``."""
    found = []
    for subject in dict.fromkeys(subjects):
        own = np.stack([label for label, s in zip(labels, subjects) if s == subject])
        scar, muscle = (int(np.isin(own, v).sum()) for v in (SCAR, (MYOCARDIUM, SCAR)))
        found.append((scar * voxel, 100 * scar / max(muscle, 1)))
    return np.array(found)


def scar_table(results: Results, test: Source) -> str:
    """Markdown: one line an arm."""
    lines = [
        "| arm | myocardium Dice | scar Dice by slice | by subject | found / free of scar | "
        "scar % of myocardium: bias [limits] | ICC |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, runs in results.items():
        muscle = dice_matrix(runs, test, (MYOCARDIUM, SCAR)).mean()
        s = arm_scores(runs, test)
        lines.append(
            f"| {arm} | {muscle:.3f} | {s.dice_slice:.3f} | {s.dice_subject:.3f} "
            f"| {s.sensitivity:.2f} / {s.specificity:.2f} | {s.share.bias:+.1f} "
            f"[{s.share.low:+.1f}, {s.share.high:+.1f}] | {s.share_icc:.2f} |"
        )
    return "\n".join(lines)


def scar_picture(results: Results, test: Source) -> np.ndarray:
    """Test slices with most scar: image, reference, and the first seed of every arm."""
    amount = [int((test[i]["label"] == SCAR).sum()) for i in range(len(test))]
    rows = []
    for i in np.argsort(amount)[::-1][:SHOWN]:
        record = test[int(i)]
        image, label = record["image"][..., 0], np.asarray(record["label"])
        row = [three_planes(image, spacing=test.info.spacing)]
        shown = [label, *(runs[0]["predictions"][i].astype(np.int32) for runs in results.values())]
        for mask in shown:
            both = three_planes(image, mask, spacing=test.info.spacing)
            row.append(both[:, both.shape[1] // 2 :])
        rows += row
    return montage(rows, columns=2 + len(results))


def write_scar_report(setting: Setting, results: Results, workdir: pathlib.Path) -> pathlib.Path:
    """Writes ``scar.md``, ``scar.json`` and ``scar.png``; returns the first.

    Differences are to ``direct``, paired by subject, with Wilcoxon's p-values, Holm-corrected. What
    the training of a generator said of itself (a collapse) stands below them.
    """
    test = setting.sources.test
    lines = ["# Scar: cascade and direct network, with and without synthetic images", ""]
    lines += [scar_table(results, test), ""]
    content: dict[str, Any] = {
        arm: dataclasses.asdict(arm_scores(runs, test)) for arm, runs in results.items()
    }
    compared = [arm for arm in results if arm != "direct" and "direct" in results]
    between = [scar_difference(results, test, arm, "direct") for arm in compared]
    corrected = holm([wilcoxon_test(b.differences) for b in between])
    for arm, difference, p_value in zip(compared, between, corrected):
        ends = difference.interval
        content[arm]["scar_dice_over_direct"] = dataclasses.asdict(ends) | {"p_holm": p_value}
        lines.append(
            f"- {arm}: scar Dice {ends.mean:+.3f} [{ends.low:+.3f}, {ends.high:+.3f}] against "
            f"direct, p = {p_value:.3f} (Wilcoxon, Holm-corrected)"
        )
    for arm, runs in results.items():
        said = [f"seed {run['seed']}: {text}" for run in runs for text in run.get("warnings", ())]
        content[arm]["warnings"] = said
        lines += [f"- **warning** of {arm}, {text}" for text in said]
    lines += ["", "![slices](scar.png)", "", "Image, reference, then the arms in order.", ""]
    save_png(workdir / "scar.png", scar_picture(results, test))
    write_json(workdir / "scar.json", json.loads(json.dumps(content)))
    path = workdir / "scar.md"
    path.write_text("\n".join(lines))
    print(scar_table(results, test))
    return path
