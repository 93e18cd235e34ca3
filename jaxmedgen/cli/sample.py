"""``bin/sample``: writes synthetic labelled scans."""

import argparse
import pathlib
from collections.abc import Mapping, Sequence

from jaxmedgen.cli.common import Parser, prepare_jax, split_overrides

EXAMPLE = """Writes synthetic labelled scans as NIfTI (images/ and labels/) with a picture.

A trained model of label maps (configs/label_deformation.py) writes label stacks alone, with the
record of what each was made of; --steps 20 writes the path from a healthy heart to a disease.
Images of label maps go with manifest.json (subject and style of each), which bin/evaluate reads.
A trained model of deformations (configs/it_vae.py) moves its training subjects with their labels;
one that translates (configs/genseg.py) shows its test subjects in every domain.
A trained VAE of shapes (configs/vae.py) draws from its prior, for a --condition if it has one;
how a trained run of configs/rhvae.py draws is set by --config.sampling.KEY=VALUE.
One with a classifier (configs/hcm_vae.py, configs/lvae.py) draws hearts of a class, walks to the
disease (navigate) and shows its latent space (space), with walls in mm and by AHA segment.

examples:
  bin/sample --config configs/synthseg.py --count 8 --output work/samples
  bin/sample --workdir work/synthseg --count 8 --output work/samples
  bin/sample --workdir work/cardiac --count 100 --layout nnunet --output work/Dataset900_Synthetic
  bin/sample --workdir work/cvae --condition 3 --count 16 --output work/threes
  bin/sample --workdir work/vae --method interpolation --count 8 --output work/between
  bin/sample --workdir work/lvae --condition HCM --count 16 --output work/diseased
  bin/sample --workdir work/lvae --method navigate --output work/walk
  bin/sample --workdir work/rhvae --config.sampling.prior=walk --count 16 --output work/walked
  bin/sample --workdir work/cardiac --labels labels/ --style scan.nii.gz --output work/restyled
  bin/sample --workdir work/cardiac --labels labels/ --style a.nii.gz --to-style b.nii.gz \\
      --count 7 --output work/path
  bin/sample --workdir work/vendors --vendor B --count 8 --output work/vendor_b
  bin/sample --workdir work/vendors --labels work/hearts/labels --vendor A,B --output work/paired
  bin/sample --workdir work/label_vae --method pathology --disease HCM --steps 20 --count 1 \\
      --output work/series
"""

COUNT = 8
NOT_FOR_LABELS = (
    *("method", "condition", "disease", "phase", "t", "steps", "spherical", "attribute"),
    *("percentile", "correlate", "plausible", "embed"),
)
"""Flags that say how something is drawn: files of labels are there already."""


def main(arguments: Sequence[str]) -> int:
    """Parses flags and samples."""
    arguments, overrides = split_overrides(arguments)
    parser = Parser(prog="bin/sample", description=EXAMPLE)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", help="FILE.py[:size[,arm=NAME]], for systems without weights")
    source.add_argument("--workdir", type=pathlib.Path, help="a trained run")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder")
    parser.add_argument("--count", type=int, help=f"number of samples, {COUNT} by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", choices=("last", "best"), help="last by default")
    parser.add_argument("--layout", choices=("plain", "nnunet"), default="plain")
    parser.add_argument(
        "--labels", type=pathlib.Path, help="label file or folder to make images of"
    )
    parser.add_argument(
        "--slice-axis",
        type=int,
        choices=(0, 1, 2),
        help="with --labels: axis of the files across their slices; by default what records.json "
        "or manifest.json beside the folder says, otherwise the axis of the largest spacing",
    )
    parser.add_argument(
        "--style",
        default="",
        help="with --labels: scan in whose style; without: own, the subject's own image's",
    )
    parser.add_argument(
        "--to-style",
        type=pathlib.Path,
        help="with --labels and --style: scan whose style the last of --count images has",
    )
    parser.add_argument(
        "--style-by-place",
        action="store_true",
        help="with --to-style: one image a file, in the style at its place t in records.json",
    )
    parser.add_argument(
        "--vendor",
        default="",
        help="style by its name (arm=vendor), such as B; with --labels also several: A,B",
    )
    parser.add_argument(
        "--method",
        default="",
        help="of models of label maps: equalised, between, targeted, pathology, elastic, "
        "right_elastic or morphology; of VAEs of shapes: prior, interpolation, uncertainty, or the "
        "latent level that alone is random; of shapes with a classifier also navigate, space, kde",
    )
    parser.add_argument(
        "--condition",
        default="",
        help="of conditional VAEs: a class, or numbers such as 1,0.5; of shapes with a classifier: "
        "a class by name or number",
    )
    hearts = parser.add_argument_group("models of label maps, with --method")
    hearts.add_argument("--disease", default="", help="pathology: of this group of subjects")
    hearts.add_argument("--phase", default="", help="ED or ES, where subjects have both")
    hearts.add_argument(
        "--t", type=float, help="between, pathology: place on the path, 0 to 1 or beyond its end"
    )
    hearts.add_argument("--steps", type=int, default=0, help="likewise: so many, from t = 0 to 1")
    hearts.add_argument("--spherical", action="store_true", help="likewise: on an arc")
    hearts.add_argument("--attribute", default="lv_volume", help="targeted: rv_volume, ...")
    hearts.add_argument("--percentile", type=float, default=97.5, help="targeted: of subjects")
    hearts.add_argument(
        "--correlate",
        choices=("moments", "raw", "none"),
        default="moments",
        help="pathology: how the slices of a drawn subject go together",
    )
    hearts.add_argument(
        "--plausible",
        type=float,
        default=0.0,
        help="least share of slices with the topology of a heart; others are drawn again",
    )
    hearts.add_argument(
        "--embed",
        choices=("mean", "sample"),
        default="mean",
        help="training subjects by the means of their posteriors, or by draws",
    )
    options = parser.parse_args(arguments)
    _check(parser, options, overrides)
    prepare_jax()
    count, checkpoint = options.count or COUNT, options.checkpoint or "last"

    if options.labels:
        from jaxmedgen.experiments.rendered_files import render_files
        from jaxmedgen.experiments.runs import open_run

        run = open_run(options.workdir)
        written = render_files(
            run,
            options.labels,
            options.output,
            style=pathlib.Path(options.style) if options.style else None,
            last_style=options.to_style,
            steps=count,
            by_place=options.style_by_place,
            vendors=tuple(options.vendor.split(",")) if options.vendor else (),
            seed=options.seed,
            kind=checkpoint,
            layout=options.layout,
            slice_axis=options.slice_axis,
        )
        print(f"wrote {written} images to {options.output}")
        return 0

    from jaxmedgen.configuration import load_config
    from jaxmedgen.experiments.label_files import LabelWishes
    from jaxmedgen.experiments.sampling import sample_run

    config = load_config(options.config, overrides) if options.config else None
    told = sample_run(
        config,
        options.workdir,
        options.output,
        count,
        options.seed,
        options.method,
        options.layout,
        options.condition,
        checkpoint,
        overrides=overrides if options.workdir else None,
        style=options.style,
        vendor=options.vendor,
        wishes=LabelWishes(
            disease=options.disease,
            phase=options.phase,
            t=options.t,
            attribute=options.attribute,
            percentile=options.percentile,
            correlate=options.correlate,
            spherical=options.spherical,
            steps=options.steps,
            embed=options.embed,
            plausible=options.plausible,
        ),
    )
    for name, value in told.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {number:.3f}" for key, number in value.items())
        print(f"{name}: {value}")
    shown = options.method in ("navigate", "space")
    print(f"wrote {'' if shown else f'{count} samples to '}{options.output}")
    return 0


def _check(parser: Parser, options: argparse.Namespace, overrides: Mapping[str, str]) -> None:
    """Leaves with a line on the first flag that is wrong or that nothing would look at."""
    if options.count is not None and options.count < 1:
        parser.error(f"--count {options.count} must be at least 1")
    if options.checkpoint and not options.workdir:
        parser.error("--checkpoint is of a trained run: give --workdir")
    if options.labels and not options.workdir:
        parser.error("--labels needs --workdir")
    if options.style not in ("", "own") and not options.labels:
        parser.error("--style of a scan needs --labels; without there is --style own")
    if options.slice_axis is not None and not options.labels:
        parser.error("--slice-axis is of the files of --labels")
    few = options.count is not None and options.count < 2 and not options.style_by_place
    if options.to_style and (options.style in ("", "own") or few):
        parser.error("--to-style needs --labels, --style SCAN and --count 2 or more")
    if options.style_by_place and not options.to_style:
        parser.error("--style-by-place needs --to-style")
    if options.vendor and options.style:
        parser.error("--vendor and --style exclude each other: give one")
    if not options.labels:
        return
    if overrides:
        parser.error("--config.KEY=VALUE does not go with --labels")
    for name in NOT_FOR_LABELS:
        if getattr(options, name) != parser.get_default(name):
            parser.error(f"--{name} does not go with --labels: the label maps are there already")
    if options.style == "own":
        parser.error("--style own does not go with --labels: give a scan, or leave it out")
    if options.count is not None and (not options.to_style or options.style_by_place):
        parser.error("--count goes with --labels only for --to-style: all label files get images")
