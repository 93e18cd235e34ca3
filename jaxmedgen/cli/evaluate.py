"""``bin/evaluate``: scores a trained run."""

from collections.abc import Sequence

from jaxmedgen.cli.common import Parser, prepare_jax, workdir_argument

EXAMPLE = """Scores a trained run: Dice, IoU, HD95 and ASSD per class and case.

Writes evaluation.json and evaluation.csv to the workdir, test metrics to metrics.jsonl and
pictures to predictions/. A model that registers groups of images is scored by how well their
labels agree afterwards: alignment.json and aligned/.

examples:
  bin/evaluate --workdir work/unet                      # its own test subjects
  bin/evaluate --workdir work/unet --data /data/other   # another labelled folder
  bin/evaluate --workdir work/unet --checkpoint best
"""


def main(arguments: Sequence[str]) -> int:
    """Parses flags and evaluates."""
    parser = Parser(prog="bin/evaluate", description=EXAMPLE)
    workdir_argument(parser)
    parser.add_argument("--data", help="labelled folder to score on instead of the test subjects")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last")
    options = parser.parse_args(arguments)
    prepare_jax()

    from rich.console import Console

    from jaxmedgen.experiments.runs import evaluate_run

    evaluate_run(options.workdir, data=options.data, kind=options.checkpoint, console=Console())
    return 0
