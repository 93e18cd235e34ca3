"""``bin/train``: trains a configuration."""

from collections.abc import Sequence

from jaxmedgen.cli.common import Parser, prepare_jax, split_overrides, workdir_argument

EXAMPLE = """Trains a configuration; run again with the same --workdir to go on after a stop.

examples:
  bin/train --config configs/unet.py:cpu --workdir work/unet
  bin/train --config configs/unet.py:gpu,arm=diffeomorphic --workdir work/diffeo --config.seed=1
  bin/train --config configs/unet.py --data /data/Dataset001_Brain --workdir work/brain
"""


def main(arguments: Sequence[str]) -> int:
    """Parses flags and trains."""
    arguments, overrides = split_overrides(arguments)
    parser = Parser(prog="bin/train", description=EXAMPLE)
    parser.add_argument("--config", required=True, help="FILE.py[:size[,arm=NAME]]")
    workdir_argument(parser)
    parser.add_argument("--data", help="folder of scans (short for data.kind=folder, data.folder)")
    parser.add_argument(
        "--profile", metavar="STEP", help="trace five steps from this one on (profile/)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument(
        "--distributed", action="store_true", help="one of several processes (SLURM, TPU pod, ...)"
    )
    options = parser.parse_args(arguments)
    prepare_jax(options.distributed)

    from jaxmedgen.configuration import load_config
    from jaxmedgen.experiments.runs import train_run
    from jaxmedgen.train.progress import Progress

    if options.data:
        folder = {"data.kind": "folder", "data.folder": options.data, "data.train": "0"}
        overrides = {**folder, **overrides}
    if options.profile:
        overrides = {"profile_at": options.profile, **overrides}
    config = load_config(options.config, overrides)
    result = train_run(config, options.workdir, progress=Progress(quiet=options.quiet))
    best = (
        ""
        if result.best is None
        else (
            f", best validation {result.best.get('metric', 'dice').capitalize()}"
            f" {result.best['score']:.3f} at step {result.best['step']}"
        )
    )
    print(
        f"trained {int(result.state.step)} steps in {result.seconds:.0f} s{best}: {options.workdir}"
    )
    return 0
