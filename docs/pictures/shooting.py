"""Registration demo and picture of docs/ops/shooting.md.

python docs/pictures/shooting.py

Registers two brain phantoms of 48^3 by geodesic shooting, prints how well that went, and draws the
geodesic from one to the other with its grid.
"""

import pathlib

import jax.numpy as jnp
import matplotlib
import numpy as np
import PIL.Image

from jaxmedgen.experiments.reproductions.population.shooting import METRIC, demonstrate
from jaxmedgen.ops.fields import warp
from jaxmedgen.ops.shooting import shoot

matplotlib.use("agg")
import matplotlib.pyplot as plt

OUT = pathlib.Path(__file__).parents[1] / "images" / "ops_shooting.png"


def main() -> None:
    """Registers, prints and draws."""
    made = demonstrate()
    print(f"100 iterations of L-BFGS, RK4 x 10: {made.seconds:.0f} s with compilation")
    print(f"residual norm {100 * (made.squares**0.5 - 1):.0f} %")
    print(f"sum of squares {100 * (made.squares - 1):.0f} %")
    print(f"mean Dice of the tissues {made.dice[0]:.3f} -> {made.dice[1]:.3f}")
    largest = float(jnp.abs(made.found.inverse).max())
    print(f"least determinant {made.determinant:.2f}, largest displacement {largest:.1f} voxels")
    _draw(made.source, made.target, made.found.velocity)


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


if __name__ == "__main__":
    main()
