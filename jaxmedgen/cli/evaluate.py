"""``bin/evaluate``: scores a trained run, or the realism of synthetic images."""

import argparse
import pathlib
from collections.abc import Sequence

from jaxmedgen.cli.common import Parser, prepare_jax, scoring_arguments, workdir_argument

EXAMPLE = """Scores a trained run: Dice, IoU, HD, HD95 and ASSD per class and case.

With --data another labelled folder is scored on: its classes are found by their names in
dataset.json, or else by the numbers of the training files; it may lack some of them.

Writes evaluation.json and evaluation.csv to the workdir, test metrics to metrics.jsonl and
pictures to predictions/. A model that registers groups of images is scored by how well their
labels agree afterwards: alignment.json and aligned/. A model of volumes from planes is scored for
every set of views.

With --real and --synthetic it compares two folders of labelled images instead: FID, KID,
precision and recall, diversity, copies of training images, label fidelity. The report is
realism.html in the workdir. --readers writes sheets of a blinded reader study to readers/;
--score-readers scores the filled ones.

examples:
  bin/evaluate --workdir work/unet                      # its own test subjects
  bin/evaluate --workdir work/unet --data /data/other   # another labelled folder
  bin/evaluate --workdir work/unet --checkpoint best
  bin/evaluate --workdir work/it_vae --samples 1000     # draws of the importance-weighted bound
  bin/evaluate --workdir work/tumours --regions ET=3,TC=1+3,WT=1+2+3 --absent right
  bin/evaluate --real REAL --synthetic SYNTHETIC --standardize --workdir work/realism
  bin/evaluate --real REAL --synthetic SYNTHETIC --groups "^([^-]+)-" --workdir work/realism
  bin/evaluate --real REAL --synthetic SYNTHETIC --extractor inception_v3:inception.npz \\
      --segmenter work/unet --workdir work/realism
  bin/evaluate --score-readers --workdir work/realism
"""


def main(arguments: Sequence[str]) -> int:
    """Parses flags and evaluates."""
    parser = Parser(prog="bin/evaluate", description=EXAMPLE)
    workdir_argument(parser)
    parser.add_argument("--data", help="labelled folder to score on instead of the test subjects")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last")
    parser.add_argument(
        "--samples",
        type=int,
        default=100,
        help="draws of the importance-weighted bound of an autoencoder (IT-VAE)",
    )
    scoring_arguments(parser)
    realism = parser.add_argument_group("realism of synthetic images")
    realism.add_argument("--real", help="folder of real images, those the generator has seen")
    realism.add_argument("--synthetic", help="folder of synthetic images")
    realism.add_argument("--held-out", help="folder of real images that it has not seen")
    realism.add_argument(
        "--extractor",
        default="",
        help="classifier (the default where --groups finds two), random (the default elsewhere), a "
        ".npz file, a run's folder, or ARCHITECTURE:FILE",
    )
    realism.add_argument("--segmenter", default="", help="run of a segmenter of real images")
    realism.add_argument(
        "--groups", default="", help="regular expression of the vendor or disease in case names"
    )
    realism.add_argument(
        "--shape",
        default="",
        help="size for all images, such as 128,128: voxels are fitted to the real ones, the same "
        "for all; thick slices keep their distance",
    )
    realism.add_argument("--data-range", type=float, default=1.0, help="width of the full scale")
    realism.add_argument(
        "--standardize",
        action="store_true",
        help="give every image mean 0 and deviation 1 first, where sets differ in scale",
    )
    realism.add_argument("--readers", type=int, default=0, help="write sheets for so many readers")
    realism.add_argument(
        "--design",
        choices=("scale", "pairs"),
        default="scale",
        help="question to the readers: how real is an image (1 to 5), or which of a pair is real",
    )
    realism.add_argument("--score-readers", action="store_true", help="score the filled sheets")
    options = parser.parse_args(arguments)
    if bool(options.real) != bool(options.synthetic):
        parser.error("--real and --synthetic go together: two folders are compared")
    if options.score_readers:
        return _score_readers(options)
    prepare_jax()
    if options.real:
        return _realism(options)

    from rich.console import Console

    from jaxmedgen.experiments.run_evaluation import evaluate_run

    evaluate_run(
        options.workdir,
        data=options.data,
        kind=options.checkpoint,
        regions=options.regions,
        absent=options.absent,
        samples=options.samples,
        console=Console(),
    )
    return 0


def _realism(options: argparse.Namespace) -> int:
    from jaxmedgen.experiments.synthetic.comparable import read_folder
    from jaxmedgen.experiments.synthetic.manifest import read_manifest
    from jaxmedgen.experiments.synthetic.reader_sheets import write_sheets
    from jaxmedgen.experiments.synthetic.realism_run import evaluate_realism, image_set

    shape = tuple(int(n) for n in options.shape.split(",")) if options.shape else ()
    real = read_folder(options.real, shape)
    synthetic = read_folder(options.synthetic, shape, like=real)
    report = evaluate_realism(
        real,
        synthetic,
        options.workdir,
        held_out=read_folder(options.held_out, shape, like=real) if options.held_out else None,
        extractor=options.extractor,
        segmenter=options.segmenter,
        pattern=options.groups,
        manifest=read_manifest(pathlib.Path(options.synthetic)),
        standardize=options.standardize,
        data_range=options.data_range,
    )
    for text in report.readings:
        print(f"reading: {text}")
    for text in report.warnings:
        print(f"note: {text}")
    for metric in ("fid", "kid", "precision", "recall", "label_fidelity"):
        values = [report.value(name, metric) for name in ("held-out real", "synthetic")]
        if values[1] == values[1]:  # not NaN: it was measured
            print(f"{metric:15} held-out real {values[0]:9.4f}   synthetic {values[1]:9.4f}")
    if options.readers:
        images = [image_set(source).images for source in (real, synthetic)]
        folder = options.workdir / "readers"
        write_sheets(*images, folder, readers=options.readers, design=options.design)
        print(f"reader study: {folder} (keep key.json to yourself)")
    print(f"report: {(options.workdir / 'realism.html').resolve()}")
    return 0


def _score_readers(options: argparse.Namespace) -> int:
    from jaxmedgen.experiments.synthetic.reader_sheets import describe, score_sheets

    for line in describe(score_sheets(options.workdir / "readers")):
        print(line)
    return 0
