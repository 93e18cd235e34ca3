"""``bin/reproduce``: runs the claims of a system and records the numbers."""

import argparse
import importlib
import pathlib
import shlex
from collections.abc import Mapping, Sequence

from jaxmedgen.cli.common import Parser, prepare_jax, split_overrides

EXAMPLE = """Runs the experiment behind a system's claims and records what came out.

Writes NAME.json, NAME.md and pictures to --output. Trainings lie in --workdir; finished ones are
not repeated. Minutes to hours on one core: docs/results/NAME.md tells what the published run took.
With --docs docs the record takes the place of the published one in docs/results, and the list of
all claims (docs/results.md) and the page's thresholds (docs/systems/NAME.md) are made anew.

examples:
  bin/reproduce unet
  bin/reproduce unet --docs docs
  bin/reproduce synthseg --data label_maps/ --scan t1.nii.gz --reference t1_labels.nii.gz
  bin/reproduce heldout_contrast --data label_maps/
  bin/reproduce genseg_digits --data mnist/ --parts hard
"""


def main(arguments: Sequence[str]) -> int:
    """Runs one experiment and prints its claims; 0 whether or not they hold."""
    arguments, overrides = split_overrides(arguments)
    parser = Parser(prog="bin/reproduce", description=EXAMPLE)
    names = _names()
    parser.add_argument("name", help=", ".join(names))
    parser.add_argument("--workdir", type=pathlib.Path, help="default: work/reproduce/NAME")
    parser.add_argument("--output", type=pathlib.Path, help="default: WORKDIR/record")
    parser.add_argument("--docs", type=pathlib.Path, help="folder of the pages to write it into")
    parser.add_argument("--data", help="folder of data, where an experiment needs one")
    parser.add_argument("--scan", type=pathlib.Path, help="scan, where an experiment needs one")
    parser.add_argument("--reference", type=pathlib.Path, help="label map of the scan")
    parser.add_argument("--orientation", help="true voxel axes of the scan, such as LIA")
    parser.add_argument(
        "--parts",
        type=lambda text: tuple(text.split(",")),
        default=(),
        help="parts to run, where there are some to choose from (genseg_digits: simple,hard)",
    )
    options = parser.parse_args(arguments)
    if options.docs and options.output:
        parser.error("--docs and --output both say where the record goes: give one")
    if options.name not in names:
        parser.error(f"no experiment '{options.name}': choose one of {', '.join(names)}")
    if "seed" in overrides:
        parser.error(
            "--config.seed: an experiment trains with seeds of its own, which one number for all "
            "would make the same training: leave it out"
        )
    prepare_jax()

    from jaxmedgen.experiments.reproductions import record

    module = importlib.import_module(f"jaxmedgen.experiments.reproductions.{options.name}")
    # Of a flag that an experiment does not read the record would say that it was used.
    taken = getattr(module, "TAKES", ())
    for flag in ("data", "scan", "reference", "orientation"):
        if getattr(options, flag) is not None and flag not in taken:
            known = ", ".join(f"--{name}" for name in taken) or "no files"
            parser.error(f"--{flag}: {options.name} reads none, it takes {known}: leave it out")
    offered = getattr(module, "PARTS", ())
    for part in options.parts:
        if part not in offered:
            known = f"it has {', '.join(offered)}" if offered else "it has none to choose from"
            parser.error(f"--parts {part}: no such part of {options.name}, {known}")
    workdir = options.workdir or pathlib.Path("work/reproduce") / options.name
    output = options.docs / "results" if options.docs else options.output or workdir / "record"
    result = module.reproduce(
        record.Options(
            workdir=workdir,
            data=options.data,
            scan=options.scan,
            reference=options.reference,
            orientation=options.orientation,
            parts=options.parts,
            overrides=overrides,
        )
    )
    page = record.write(result, output, options.name, _command(options, overrides))
    if options.docs:
        record.collect(output, options.docs / "results.md")
        written = output / f"{options.name}.json"
        record.update_page(written, options.docs / "systems" / f"{options.name}.md")
    for claim in result.claims:
        print(
            f"{'holds' if claim.holds else 'FAILS'}  {claim.name}: {claim.measured:.3f} "
            f"(expected {claim.expected})"
        )
    print(f"recorded in {page}")
    return 0


def _command(options: argparse.Namespace, overrides: Mapping[str, str]) -> str:
    """The command as it is published: names of the user's own files become placeholders."""
    words = ["bin/reproduce", options.name]
    for flag, placeholder in (("data", "DATA"), ("scan", "SCAN"), ("reference", "REFERENCE")):
        if getattr(options, flag):
            words += [f"--{flag}", placeholder]
    if options.orientation:
        words += ["--orientation", options.orientation]
    if options.parts:
        words += ["--parts", ",".join(options.parts)]
    for key, value in overrides.items():
        words.append(f"--config.{key}={'PATH' if pathlib.Path(value).is_absolute() else value}")
    return shlex.join(words)


def _names() -> list[str]:
    """The modules that reproduce something; others are shared by them. Nothing is imported."""
    folder = pathlib.Path(__file__).resolve().parents[1] / "experiments" / "reproductions"
    return sorted(p.stem for p in folder.glob("*.py") if "\ndef reproduce(" in p.read_text())
