"""Registration demo and picture of docs/ops/shooting.md.

python docs/pictures/shooting.py

Registers two brain phantoms of 48^3 by geodesic shooting, prints how well that went, and draws the
geodesic from one to the other with its grid.
"""

import pathlib
import time

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import PIL.Image

from jaxmedgen.data.phantoms.brain import BrainCohort
from jaxmedgen.metrics.segmentation import dice_score
from jaxmedgen.ops.field_measures import jacobian_determinant
from jaxmedgen.ops.fields import identity_grid, warp
from jaxmedgen.ops.registration import register
from jaxmedgen.ops.resample import resample_labels
from jaxmedgen.ops.shooting import shoot
from jaxmedgen.ops.sobolev import SobolevMetric

matplotlib.use("agg")
import matplotlib.pyplot as plt

OUT = pathlib.Path(__file__).parents[1] / "images" / "ops_shooting.png"
BAND = 17
METRIC = SobolevMetric(alpha=3.0)


def main() -> None:
    """Registers, prints and draws."""
    cohort = BrainCohort(2, seed=3, skull=False)
    records = [cohort[i] for i in range(2)]
    images = [jnp.asarray(_unit(r["image"]))[None] for r in records]
    labels = [jnp.asarray(r["label"])[None] for r in records]
    source, target = images
    begin = time.perf_counter()
    found = register(source, target, METRIC, iterations=(60, 20, 20), band=BAND)
    jax.block_until_ready(found)
    seconds = time.perf_counter() - begin
    moved = warp(source, found.inverse)
    points = identity_grid(source.shape[1:-1]) + found.inverse
    carried = resample_labels(labels[0], points, order=1)
    norms = [float(jnp.linalg.norm(x - target)) for x in (source, moved)]
    scores = [float(dice_score(x, labels[1], 4)[0]) for x in (labels[0], carried)]
    determinant = float(jacobian_determinant(found.inverse).min())
    print(f"100 iterations of L-BFGS, band {BAND}^3, RK4 x 10: {seconds:.0f} s with compilation")
    print(
        f"residual norm {norms[0]:.2f} -> {norms[1]:.2f}: {100 * (norms[1] / norms[0] - 1):.0f} %"
    )
    print(f"sum of squares {100 * ((norms[1] / norms[0]) ** 2 - 1):.0f} %")
    print(f"mean Dice of the tissues {scores[0]:.3f} -> {scores[1]:.3f}")
    largest = float(jnp.abs(found.inverse).max())
    print(f"smallest determinant {determinant:.2f}, largest displacement {largest:.1f} voxels")
    _draw(source, target, found.velocity)


def _draw(source, target, velocity) -> None:
    """The geodesic at times 0, 1/3, 2/3, 1, the target, and beyond it at 1.5."""
    figure, axes = plt.subplots(1, 6, figsize=(15, 2.9), constrained_layout=True)
    middle = source.shape[3] // 2
    for axis, time_ in zip(axes, (0.0, 1 / 3, 2 / 3, 1.0, None, 1.5)):
        if time_ is None:
            image, title = target, "target"
        else:
            # A geodesic at time t is the one of velocity t v_0 at time 1.
            inverse = shoot(time_ * velocity, METRIC).inverse
            image, title = warp(source, inverse), f"t = {time_:.2g}"
            _grid(axis, np.asarray(inverse[0, :, :, middle]))
        axis.imshow(np.asarray(image[0, :, :, middle, 0]), cmap="gray", vmin=0, vmax=1)
        axis.set(title=title, xticks=[], yticks=[], xlim=(-0.5, 47.5), ylim=(47.5, -0.5))
    figure.savefig(OUT, dpi=70)
    PIL.Image.open(OUT).convert("RGB").quantize(128).save(OUT, optimize=True)


def _grid(axis, displacement) -> None:
    """Lines of constant coordinates of the template, drawn in the moved image."""
    size = displacement.shape[0]
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    for component, start in enumerate((rows, columns)):
        axis.contour(
            start + displacement[..., component],
            levels=np.arange(0, size, 4),
            colors="tab:orange",
            linewidths=0.6,
        )


def _unit(image: np.ndarray) -> np.ndarray:
    """Intensities of the 1st to the 99th percentile on [0, 1]."""
    low, high = np.percentile(image, (1, 99))
    return np.clip((image - low) / (high - low), 0, 1).astype(np.float32)


if __name__ == "__main__":
    main()
