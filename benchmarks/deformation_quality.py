"""Quality of the spatial presets: folding, displacements in mm, change of label volumes.

    python -m benchmarks.deformation_quality --size 64 --draws 32

Every preset is drawn with its own probabilities on the label map of a brain phantom; the table is
of the draws that move anything, mirroring left out.
"""

import argparse

import jax

from jaxmedgen.augment.presets import preset
from jaxmedgen.data.phantoms.brain import BrainCohort
from jaxmedgen.experiments.deformation_quality import deformation_quality

PRESETS = (
    *("affine", "elastic", "elastic_noise", "diffeo", "geodesic"),
    *("light", "nnunet3d", "nnunet_brats", "classic_brats"),
)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="edge of the volume")
    parser.add_argument("--draws", type=int, default=32)
    args = parser.parse_args()
    source = BrainCohort(1, (args.size,) * 3, 0)
    label, spacing = source[0]["label"], source.info.spacing
    keys = jax.random.split(jax.random.key(0), args.draws)
    print(f"{args.draws} draws, {args.size}^3 voxels of {spacing[0]:.2f} mm\n")
    print("| preset | drawn | folded voxels, % | mean displacement, mm | largest, mm "
          "| label volumes change, % |")  # fmt: skip
    print("|" + "---|" * 6)
    for name in PRESETS:
        q = deformation_quality(preset(name, spacing).spatial, keys, label)
        print(
            f"| `{name}` | {q.moved:.2f} | {q.folding:.3f} | {q.mean_displacement:.1f} "
            f"| {q.max_displacement:.1f} | {q.volume_change:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
