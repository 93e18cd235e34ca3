"""The talk's plot: Dice against the number of training scans, all arms, on the brain cohort.

Tissues and a tumour in two contrasts, as small as a processor affords. The heads of all networks
read as many numbers a voxel as the plain one's (`net.head_features`), as in the arms of bin/ablate.
"""

from ml_collections import ConfigDict

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
from jaxmedgen.report.summary import Summary

BUDGETS = (2, 8)
SEEDS = 1
STEPS = 400
HEAD = 8
ARMS = {
    "baseline": network("no symmetry", "baseline"),
    "baseline-turned": network("turned by C4 in training", "baseline_rotation", "C4"),
    "baseline-averaged": network("averaged over C4", "baseline_average", "C4"),
    "c4-features": network("C4, as many feature maps", "c4_features", head_features=HEAD),
    "c4-parameters": network("C4, as many parameters", "c4_parameters", head_features=HEAD),
    "v-parameters": network("V, as many parameters", "v", head_features=HEAD),
    "d4-parameters": network("D4, about as many parameters", "d4", head_features=HEAD),
    "o-features": network("O, one filter an element", "o_features", head_features=HEAD),
    "steerable": network(
        "irreps of SO(3), 15 channels", "steerable", multiplicity=1, kernel_size=3
    ),
}


def run(options: Options) -> Part:
    """Trains every arm on every number of brains and draws the curve."""
    config = settings(
        options,
        steps=str(STEPS),
        batch_size="2",
        patch_size="(16, 16, 16)",
        optimizer__learning_rate="5e-3",
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
        notes=(_note(summary, config),),
    )


def _note(summary: Summary, config: ConfigDict) -> str:
    """How long the networks were trained, and whether more brains helped yet."""
    few, many = min(BUDGETS), max(BUDGETS)
    gains = [summary.find(arm, many).score.mean - summary.find(arm, few).score.mean for arm in ARMS]
    return (
        f"Truncated training sets ({SEEDS} seed): {config.steps} steps of {config.batch_size} "
        f"patches, settings not tuned. {many} brains instead of {few} change the Dice of the arms "
        f"by {min(gains):+.3f} to {max(gains):+.3f}. One seed tells no order of arms that differ "
        "by less than seeds do (0.1 and more in the part above)."
    )
