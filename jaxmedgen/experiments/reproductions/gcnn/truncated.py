"""The talk's plot: Dice against the number of training scans, all arms, on the brain cohort.

Tissues and a tumour in two contrasts, as small as a processor affords.
"""

from jaxmedgen.data.build import build_sources
from jaxmedgen.experiments.reproductions.gcnn.parts import (
    Part,
    network,
    settings,
    size_table,
    study,
)
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.report.figures import budget_picture

BUDGETS = (2, 8)
SEEDS = 1
ARMS = {
    "baseline": network("no symmetry", "baseline"),
    "baseline-turned": network("turned by C4 in training", "baseline_rotation", "C4"),
    "baseline-averaged": network("averaged over C4", "baseline_average", "C4"),
    "c4-features": network("C4, as many feature maps", "c4_features"),
    "c4-parameters": network("C4, as many parameters", "c4_parameters"),
    "v-parameters": network("V, as many parameters", "v"),
    "d4-parameters": network("D4, about as many parameters", "d4"),
    "o-features": network("O, one filter an element", "o_features"),
    "steerable": network(
        "irreps of SO(3), 15 channels", "steerable", multiplicity=1, kernel_size=3
    ),
}


def run(options: Options) -> Part:
    """Trains every arm on every number of brains and draws the curve."""
    config = settings(
        options,
        steps="60",
        batch_size="2",
        patch_size="(16, 16, 16)",
        optimizer__learning_rate="1e-2",
        data__kind="brain",
        data__contrasts="('t1ce', 'flair')",
        data__lesions="('tumour',)",
        data__test_site="a",
        data__train=str(max(BUDGETS)),
        data__validation="0",
        data__test="8",
        eval_every="0",
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
        table=size_table(results, summary),
        pictures={"truncated": budget_picture(results, summary)},
        notes=(
            f"Truncated training sets ({SEEDS} seed): {config.steps} steps of {config.batch_size} "
            "patches, far from converged, so that more brains do not help yet. The curves show how "
            "fast the networks start: like the talk's equivariant networks, those with few "
            "filters an element stay behind the baseline. Longer training decides what is better.",
        ),
    )
