"""``bin/sample``: writes synthetic labelled scans."""

import pathlib
from collections.abc import Sequence

from jaxmedgen.cli.common import Parser, prepare_jax, split_overrides

EXAMPLE = """Writes synthetic labelled scans as NIfTI (images/ and labels/) with a picture.

A trained model of deformations (configs/it_vae.py) moves its training subjects with their labels.

examples:
  bin/sample --config configs/synthseg.py --count 8 --output work/samples
  bin/sample --workdir work/synthseg --count 8 --output work/samples
"""


def main(arguments: Sequence[str]) -> int:
    """Parses flags and samples."""
    arguments, overrides = split_overrides(arguments)
    parser = Parser(prog="bin/sample", description=EXAMPLE)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", help="FILE.py[:size[,arm=NAME]], for systems without weights")
    source.add_argument("--workdir", type=pathlib.Path, help="a trained run")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder")
    parser.add_argument("--count", type=int, default=8, help="number of samples")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.workdir and overrides:
        parser.error("--config.KEY=VALUE needs --config: a trained run keeps its settings")
    if options.count < 1:
        parser.error(f"--count {options.count} must be at least 1")
    prepare_jax()

    from jaxmedgen.configuration import load_config
    from jaxmedgen.experiments.runs import sample_run

    config = load_config(options.config, overrides) if options.config else None
    sample_run(config, options.workdir, options.output, options.count, options.seed)
    print(f"wrote {options.count} samples to {options.output}")
    return 0
