"""The talk's plot: Dice against the number of training scans, all arms, on the brain cohort.

Tissues and a tumour in two contrasts, as small as a processor affords.
"""

from jaxmedgen.data.build import build_sources
from jaxmedgen.experiments.reproductions.gcnn.parts import (
    difference,
    network,
    settings,
    size_table,
    study,
)
from jaxmedgen.experiments.reproductions.record import Claim, Options, Part
from jaxmedgen.report.figures import budget_picture
from jaxmedgen.report.results import AblationResults

BUDGETS = (2, 8)
SEEDS = 3
STEPS = 300
WIDE = {"head_features": 8}
"""Of heads that pool over the group: as many features as the baseline's last level has."""
ARMS = {
    "baseline": network("no symmetry", "baseline"),
    "baseline-batch": network("no symmetry, batch norm", "baseline", norm="batch"),
    "baseline-turned": network("turned by C4 in training", "baseline_rotation", "C4"),
    "baseline-averaged": network("averaged over C4", "baseline_average", "C4"),
    "c4-features": network("C4, as many feature maps, the talk's head", "c4_features"),
    "c4-features-wide": network("the same, 8 features pooled", "c4_features", **WIDE),
    "c4-parameters": network("C4, as many parameters, 8 features", "c4_parameters", **WIDE),
    "c4-axis0": network("C4 about the first axis, as many parameters", "c4_axis0", **WIDE),
    "c4-axis1": network("C4 about the second axis, as many parameters", "c4_axis1", **WIDE),
    "v-parameters": network("V, as many parameters, 8 features", "v", **WIDE),
    "d4-parameters": network("D4, about as many parameters, 8 features", "d4", **WIDE),
    "t-parameters": network("T, about as many parameters, 8 features", "t", **WIDE),
    "o-features": network("O, one filter an element, 8 features", "o_features", **WIDE),
    "oh-parameters": network("Oh, about as many parameters, 8 features", "oh", **WIDE),
    "steerable": network(
        "irreps of SO(3), 15 channels", "steerable", multiplicity=1, kernel_size=3
    ),
}


def run(options: Options) -> Part:
    """Trains every arm on every number of brains, draws the curve, compares with the baseline."""
    config = settings(
        options,
        steps=str(STEPS),
        batch_size="2",
        patch_size="(16, 16, 16)",
        data__kind="brain",
        data__contrasts="('t1ce', 'flair')",
        data__lesions="('tumour',)",
        data__test_site="a",
        data__train=str(max(BUDGETS)),
        data__validation="0",
        data__test="8",
        eval_every="0",
        net__norm="instance",  # statistics of two patches are too poor for batch norm
    )
    results, summary = study(
        options,
        "truncated",
        config,
        build_sources(config.data),
        ARMS,
        BUDGETS,
        SEEDS,
        "brain phantoms with tumours",
    )
    return Part(
        results.total_seconds,
        claims=claims(results),
        table=size_table(results, summary),
        pictures={"dice": budget_picture(results, summary)},
        notes=(
            f"Truncated training sets ({len(results.seeds)} seeds): {config.steps} steps of "
            f"{config.batch_size} patches of {config.patch_size[0]}^3 voxels for every arm; the "
            "same 8 test brains for all. Brains of this cohort are upright, as heads in scanners "
            "are: no arm is shown turned ones in testing. No setting was chosen by these scores.",
        ),
    )


def claims(results: AblationResults) -> tuple[Claim, ...]:
    """The talk's finding, and whether as many parameters change it."""
    few = min(results.budgets)
    found = []
    for arm, expected in (("c4-features", "<= 0"), ("c4-parameters", "> 0")):
        gain = difference(results, arm, few).interval
        holds = gain.mean <= 0 if expected == "<= 0" else gain.mean > 0
        found.append(
            Claim(
                f"{results.arms[arm]}: gain over the baseline, N = {few}",
                f"{expected} Dice",
                gain.mean,
                (gain.low, gain.high),
                bool(holds),
            )
        )
    return tuple(found)
