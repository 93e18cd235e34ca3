"""What the parts share: networks as arms of a study, studies in folders, trained networks."""

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import Sources
from jaxmedgen.experiments.ablation import run_study
from jaxmedgen.experiments.arms import Arm, ArmInputs, ArmTraining
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.study import Study
from jaxmedgen.metrics.statistics import PairedDifference, paired_difference
from jaxmedgen.report.results import AblationResults, score_matrix
from jaxmedgen.report.summary import Summary, summarise

_OF_THE_STUDY = ("base_filters", "depth", "norm", "dropout", "dtype", "remat")


def settings(options: Options, arm: str = "baseline", **own: str) -> ConfigDict:
    """An arm of `configs/gcnn_unet.py` with a part's settings, then the user's.

    Keys of `own` have two underscores for the dot: ``data__train="8"``.
    """
    changes = {key.replace("__", "."): value for key, value in own.items()}
    return load_config(f"gcnn_unet:cpu,arm={arm}", {**changes, **options.overrides})


def network(description: str, name: str, group: str = "O", **changes: int | str) -> Arm:
    """An arm of `configs/gcnn_unet.py` as an arm of a study, at the study's size.

    Args:
        description: one line for the report.
        name: of the arm.
        group: of the arms that turn images or average predictions.
        **changes: settings of its network that differ from the file's and the study's.
    """

    def prepare(inputs: ArmInputs) -> ArmTraining:
        config = load_config(f"gcnn_unet:cpu,arm={name},group={group}")
        net = config.net.to_dict()
        if net["kind"] == "group":
            net |= {key: inputs.config.net[key] for key in _OF_THE_STUDY}
        net |= changes
        return ArmTraining(
            {
                "net": net,
                "augment.preset": config.augment.preset,
                "augment.group": config.augment.group,
            }
        )

    return Arm(description, prepare)


def study(
    options: Options,
    folder: str,
    config: ConfigDict,
    sources: Sources,
    arms: dict[str, Arm],
    budgets: tuple[int, ...],
    seeds: int,
    dataset: str,
) -> tuple[AblationResults, Summary]:
    """Trains what is not trained yet; the first arm is the reference."""
    plan = Study(config, sources, arms, budgets, seeds, dataset)
    results = run_study(plan, options.workdir / folder, progress=options.progress, go_on=False)
    return results, summarise(results)


def difference(results: AblationResults, arm: str, budget: int) -> PairedDifference:
    """Dice of an arm less that of the reference, paired by cases."""
    ours, reference = (score_matrix(results, name, budget) for name in (arm, results.reference_arm))
    return paired_difference(ours, reference)


def size_table(results: AblationResults, summary: Summary) -> str:
    """Dice by arm and number of training volumes, with the spread over seeds."""
    lines = ["| arm | " + " | ".join(f"N = {n}" for n in results.budgets) + " |"]
    lines += ["|---|" + "---|" * len(results.budgets)]
    for arm, description in results.arms.items():
        cells = []
        for budget in results.budgets:
            row = summary.find(arm, budget)
            spread = f" (sd {row.seed_sd:.3f})" if row.seeds > 1 else ""
            cells.append(f"{row.score.mean:.3f}{spread}")
        lines.append(f"| {arm}: {description} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
