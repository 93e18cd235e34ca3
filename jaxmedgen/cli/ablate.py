"""``bin/ablate``: compares augmentation arms over label budgets and writes the report."""

import pathlib
import shlex
from collections.abc import Sequence

from jaxmedgen.cli.common import Parser, prepare_jax, split_overrides, workdir_argument

EXAMPLE = """Compares augmentation arms over label budgets and writes one HTML report.

The first arm is the reference of the comparison. Run again with the same --workdir to go on after
a stop, or with more arms, budgets or seeds to add them.

--experiment asks instead what synthetic images are good for: augmentation, reduction (fewer real
subjects), domain_shift, pathology, outliers, agreement (metrics against use) or scar. --generator
names what makes them: oracle (the heart phantoms' renderer), a configuration that is trained on the
subjects of each arm, or the folder of a trained run.

examples:
  bin/ablate --data /data/Dataset001_Brain --arms none,light,classic,diffeomorphic,synthesis \\
      --labelled 4,16 --seeds 3 --workdir work/study
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
    parser.add_argument("--arms", default="none,light,classic,diffeomorphic,synthesis")
    parser.add_argument("--labelled", default="4,16", help="label budgets, comma separated")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions")
    workdir_argument(parser)
    parser.add_argument("--experiment", help="what synthetic images are good for: reduction, ...")
    parser.add_argument(
        "--generator", default="oracle", help="oracle, FILE.py[:size], or a run's folder"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_args(arguments)
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
    from jaxmedgen.experiments.study import Study
    from jaxmedgen.report.controls import missing_controls
    from jaxmedgen.report.page import write_report
    from jaxmedgen.report.results import save_results
    from jaxmedgen.report.summary import print_summary, summarise
    from jaxmedgen.train.progress import Progress

    config = load_config(options.config or "ablation", {**_folder(options.data), **overrides})
    arms = select_arms(options.arms.split(","))
    budgets = _budgets(parser, options.labelled)
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
    )
    alone = missing_controls(tuple(arms), study.controls)
    if alone:
        print(f"note: {alone}")
    results = run_study(study, options.workdir, progress=Progress(quiet=options.quiet))
    save_results(results, options.workdir / "results")
    report = write_report(results, options.workdir / "report.html")
    print_summary(summarise(results))
    print(f"report: {report.resolve()}")
    return 0


def _folder(data: str | None) -> dict[str, str]:
    """Settings of a user's folder."""
    return {"data.kind": "folder", "data.folder": data, "data.train": "0"} if data else {}


def _budgets(parser: Parser, text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        parser.error(f"--labelled {text!r} must be numbers such as 4,16")
