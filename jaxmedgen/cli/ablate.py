"""``bin/ablate``: compares augmentation arms over label budgets and writes the report."""

import argparse
import pathlib
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxmedgen.cli.common import (
    Parser,
    prepare_jax,
    scoring_arguments,
    split_overrides,
    workdir_argument,
)

if TYPE_CHECKING:
    from jaxmedgen.experiments.study import Study

ARMS = "none,light,classic,diffeomorphic,synthesis"
LABELLED = "4,16"
EXAMPLE = """Compares augmentation arms over label budgets and writes one HTML report.

Without --config volumes are brought into 40^3 voxels and runs take 400 steps, which a laptop can
do; configs/ablation.py:gpu has 128^3 voxels and 5000 steps. Six patients are held out for the test
(--config.data.test) and two for learning curves. The first arm is the reference. Run again with
the same --workdir to go on after a stop, or with more arms, budgets or seeds to add them.

--experiment asks instead what synthetic images are good for: augmentation, reduction (fewer real
subjects), domain_shift, pathology, outliers, agreement (metrics against use) or scar. --generator
names what makes them: oracle (the heart phantoms' renderer), a configuration that is trained on the
subjects of each arm, or the folder of a trained run.

examples:
  bin/ablate --data /data/Dataset001_Brain --arms none,light,classic,diffeomorphic,synthesis \\
      --labelled 4,16 --seeds 3 --config.data.test=20 --workdir work/study
  bin/ablate --data /data/Lesions --arms none,classic --absent right --workdir work/lesions
  bin/ablate --config configs/ablation.py:gpu --arms none,classic --labelled 2 --workdir work/two
  bin/ablate --experiment reduction --generator oracle --workdir work/reduction
"""


def main(arguments: Sequence[str]) -> int:
    """Parses flags, runs the study, writes and prints the report."""
    command = "bin/ablate " + shlex.join(arguments)
    arguments, overrides = split_overrides(arguments)
    parser = Parser(prog="bin/ablate", description=EXAMPLE)
    parser.add_argument("--data", help="folder of labelled scans; the embedded brains without it")
    parser.add_argument("--config", help="FILE.py[:size]; ablation without --experiment")
    parser.add_argument("--arms", help=f"comma separated; default: {ARMS}")
    parser.add_argument("--list-arms", action=_ListArms, nargs=0, help="tells all arms and stops")
    parser.add_argument(
        "--labelled", help=f"numbers of labelled patients, comma separated; default: {LABELLED}"
    )
    parser.add_argument("--seeds", type=int, default=3, help="repetitions")
    workdir_argument(parser)
    scoring_arguments(parser)
    parser.add_argument("--experiment", help="what synthetic images are good for: reduction, ...")
    parser.add_argument(
        "--generator", default="oracle", help="oracle, FILE.py[:size], or a run's folder"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_args(arguments)
    if options.experiment and (options.arms or options.labelled):
        parser.error(
            "--experiment has arms of its own: leave out --arms and --labelled, and set what it "
            "compares by --config.experiment.KEY=VALUE"
        )
    if options.experiment and (options.regions or options.absent != "excluded"):
        parser.error("--experiment scores classes: leave out --regions and --absent")
    prepare_jax()
    if options.experiment:
        from jaxmedgen.experiments.synthetic.running import report_experiment

        report = report_experiment(
            options.experiment,
            options.config,
            {**_folder(options.data), **overrides},
            options.generator,
            options.workdir,
            seeds=options.seeds,
            command=command,
            quiet=options.quiet,
        )
        print(f"report: {report.resolve()}")
        return 0

    from jaxmedgen.configuration import load_config
    from jaxmedgen.data.build import build_sources
    from jaxmedgen.experiments.ablation import run_study
    from jaxmedgen.experiments.arms import select_arms
    from jaxmedgen.experiments.runs import unclear_names
    from jaxmedgen.experiments.study import Study
    from jaxmedgen.report.controls import missing_controls
    from jaxmedgen.report.page import write_report
    from jaxmedgen.report.results import save_results
    from jaxmedgen.report.summary import print_summary, summarise
    from jaxmedgen.train.progress import Progress

    config = load_config(options.config or "ablation", {**_folder(options.data), **overrides})
    arms = select_arms((options.arms or ARMS).split(","))
    budgets = _budgets(parser, options.labelled or LABELLED)
    sources = build_sources(config.data)
    size = f"{len(sources.train)} + {len(sources.validation)} + {len(sources.test)} subjects"
    folder, kind = config.data.folder, config.data.kind
    name = pathlib.Path(folder).name if folder else f"embedded phantoms ({kind})"
    study = Study(
        config=config,
        sources=sources,
        arms=arms,
        budgets=budgets,
        seeds=options.seeds,
        dataset=f"{name}, {size} (training pool + validation + test)",
        command=command,
        regions=options.regions,
        absent=options.absent,
    )
    unclear = unclear_names(sources) if folder else ""
    for note in (unclear, missing_controls(tuple(arms), study.controls), _power(study)):
        if note:
            print(f"note: {note}")
    results = run_study(study, options.workdir, progress=Progress(quiet=options.quiet))
    save_results(results, options.workdir / "results")
    report = write_report(results, options.workdir / "report.html")
    print_summary(summarise(results))
    print(f"report: {report.resolve()}")
    return 0


class _ListArms(argparse.Action):
    """Like ``--help``: nothing else is needed beside it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from jaxmedgen.experiments.arms import described_arms

        print(described_arms())
        parser.exit()


def _power(study: "Study") -> str:
    """What is told before hours of training: a test that cannot find anything."""
    from jaxmedgen.data.splits import patient_of
    from jaxmedgen.report.power import lacks_power

    comparisons = (len(study.arms) - 1) * len(study.budgets)
    patients = len({patient_of(name) for name in study.sources.test.info.case_names})
    note = lacks_power(patients, comparisons) if comparisons else ""
    return f"{note} More are held out by --config.data.test=NUMBER." if note else ""


def _folder(data: str | None) -> dict[str, str]:
    """Settings of a user's folder."""
    return {"data.kind": "folder", "data.folder": data, "data.train": "0"} if data else {}


def _budgets(parser: Parser, text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        parser.error(f"--labelled {text!r} must be numbers such as 4,16")
