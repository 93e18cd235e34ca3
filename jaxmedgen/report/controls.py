"""What an arm adds to the training that it shares with another one.

An arm of added images also trains with a preset, an arm joined with a preset has that preset too:
against a reference without augmentation such an arm gains what the preset gains. Its control is the
same training without the model. An arm with a symmetric network has another architecture than the
reference: its control is that architecture without the symmetry.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxmedgen.metrics import statistics
from jaxmedgen.report import formats
from jaxmedgen.report.results import AblationResults, patient_matrix

NAMED = 6
"""So many differences at most are told in the answer; a table has them all."""


@dataclasses.dataclass(frozen=True)
class Added:
    """One arm against its control, at one label budget.

    Attributes:
        arm: name of the arm.
        control: the arm that is the same without what `arm` adds.
        budget: number of labelled training cases.
        difference: paired by case; its interval is not corrected for the number of comparisons.
    """

    arm: str
    control: str
    budget: int
    difference: statistics.PairedDifference


def added_by_arms(results: AblationResults) -> tuple[Added, ...]:
    """Every arm against its control, where that ran and is not the reference arm anyway."""
    found = []
    for budget in results.budgets:
        for arm, control in results.controls.items():
            if control not in results.arms or control == results.reference_arm:
                continue
            ours, theirs = (patient_matrix(results, name, budget) for name in (arm, control))
            shared = np.isfinite(ours).any(axis=0) & np.isfinite(theirs).any(axis=0)
            if shared.any():
                difference = statistics.paired_difference(ours, theirs)
                found.append(Added(arm, control, budget, difference))
    return tuple(found)


def sentence(added: Sequence[Added]) -> str:
    """What the arms add, for the answer; empty where nothing is compared.

    More than `NAMED` comparisons are counted.
    """
    if not added:
        return ""
    if len(added) > NAMED:
        gaining = [row.arm for row in added if row.difference.interval.low > 0]
        return (
            f"Against the same training without what the arm adds {len(gaining)} of {len(added)} "
            "gain (95 % interval above 0, not corrected)"
            f"{': ' if gaining else ''}{', '.join(gaining)}."
        )
    several = len({row.budget for row in added}) > 1
    parts = [
        f"{row.arm} {formats.difference(row.difference)} over {row.control}"
        + (f" ({row.budget} labels)" if several else "")
        for row in added
    ]
    return (
        "Against the same training without what the arm adds (Dice, 95 % CI, not corrected): "
        + ", ".join(parts)
        + "."
    )


def missing_controls(arms: Sequence[str], controls: dict[str, str]) -> str:
    """A note on the arms whose gain cannot be told from their control's; empty if there are none.

    Args:
        arms: of the study.
        controls: by arm.
    """
    missing: dict[str, list[str]] = {}
    for arm in arms:
        control = controls.get(arm, "")
        if control and control not in arms:
            missing.setdefault(control, []).append(arm)
    if not missing:
        return ""
    parts = [
        f"the arm {control} is the same training without what {' and '.join(names)} "
        f"{'add' if len(names) > 1 else 'adds'}"
        for control, names in missing.items()
    ]
    return (
        "; ".join(parts) + ": part or all of the difference may be that training's. Add "
        f"{' and '.join(missing)} to the arms to tell them apart."
    )
