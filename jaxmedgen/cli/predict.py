"""``bin/predict``: segments scans."""

import pathlib
from collections.abc import Sequence

from jaxmedgen.cli.common import Parser, prepare_jax, scoring_arguments, workdir_argument

EXAMPLE = """Segments a scan or a folder of scans: NIfTI in, NIfTI out on the scan's own grid.

With several channels, the files of a case are NAME_0000.nii.gz, NAME_0001.nii.gz, ..., or one file
has them along its fourth axis. Labels have the numbers of the training files (labels.json names
them). With --reference (a label file or folder of the same names) Dice and distances are reported
too; references must lie where their scans lie.

Models of 2D images segment volumes slice by slice; one of hemispheres (configs/genseg.py) segments
both and joins them. With --translate, a model that translates (configs/genseg.py) writes the scans
as they would be in another domain: absence is without the finding.

A model of volumes from planes (configs/hcvae.py) takes a folder of NAME_axial.nii.gz,
NAME_sagittal.nii.gz, NAME_coronal.nii.gz, of which some may be missing, and writes the volume, its
uncertainty, a surface mesh (STL, VTK) and biometry.json.

A classifier of shapes (configs/hcm_vae.py) takes a folder of label maps CASE_ED.nii.gz,
CASE_ES.nii.gz and writes probabilities.csv (of every class) and the shapes as the model sees them.

examples:
  bin/predict --workdir work/unet --input scan.nii.gz --output segmented/
  bin/predict --workdir work/hcvae --input planes/ --output skulls/
  bin/predict --workdir work/brats --input scans/ --translate absence --output healthy/
  bin/predict --workdir work/unet --input scans/ --output segmented/ --reference labels/
"""


def main(arguments: Sequence[str]) -> int:
    """Parses flags and predicts."""
    parser = Parser(prog="bin/predict", description=EXAMPLE)
    workdir_argument(parser)
    parser.add_argument("--input", type=pathlib.Path, required=True, help="file or folder")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder")
    parser.add_argument("--reference", type=pathlib.Path, help="label file or folder to score with")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last")
    scoring_arguments(parser)
    parser.add_argument(
        "--flips",
        nargs="?",
        choices=("logits", "probabilities"),
        const="logits",
        default="",
        help="average logits (by default) or probabilities over left-right mirroring",
    )
    parser.add_argument(
        "--largest", action="store_true", help="keep the largest connected foreground only"
    )
    parser.add_argument(
        "--fill-holes", action="store_true", help="fill background that foreground encloses"
    )
    parser.add_argument(
        "--orientation", help="what the voxel axes really are, such as LIA, where headers are wrong"
    )
    parser.add_argument(
        "--translate",
        metavar="DOMAIN",
        default="",
        help="write the scans as they would be in this domain, such as absence, instead",
    )
    options = parser.parse_args(arguments)
    prepare_jax()

    from rich.console import Console

    from jaxmedgen.experiments.prediction import predict_files

    predict_files(
        options.workdir,
        options.input,
        options.output,
        reference=options.reference,
        kind=options.checkpoint,
        flips=options.flips,
        orientation=options.orientation,
        largest=options.largest,
        holes=options.fill_holes,
        target=options.translate,
        regions=options.regions,
        absent=options.absent,
        console=Console(),
    )
    return 0
