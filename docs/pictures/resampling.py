"""Draws docs/images/ops_resampling.png: what the kernels do when enlarging and when shrinking."""

import pathlib

import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from skimage.data import shepp_logan_phantom
from skimage.transform import resize as shrink

from jaxmedgen.ops.resample import resample
from jaxmedgen.ops.resize import resize

OUTPUT = pathlib.Path(__file__).parents[1] / "images" / "ops_resampling.png"


def main() -> None:
    """Writes the picture."""
    head = shrink(shepp_logan_phantom(), (56, 56), anti_aliasing=True).astype(np.float32)
    small = jnp.asarray(head[18:38, 16:40])[None, ..., None]
    spots = [jnp.arange(n * 10) / 10 - 0.45 for n in small.shape[1:3]]
    grid = jnp.stack(jnp.meshgrid(*spots, indexing="ij"), -1)[None]
    enlarged = {
        "nearest": resample(small, grid, order=0),
        "linear": resample(small, grid, order=1),
        "cubic B-spline": resample(small, grid, order=3),
        "Lanczos": resize(small, (200, 240), order="lanczos"),
    }
    a, b = np.mgrid[-1:1:240j, -1:1:240j]
    rings = jnp.asarray(np.cos(90 * (a**2 + b**2)), jnp.float32)[None, ..., None]
    shrunk = {
        "nearest": resize(rings, (80, 80), order=0),
        "linear": resize(rings, (80, 80), order=1),
        "linear, antialias": resize(rings, (80, 80), order=1, antialias=True),
        "Lanczos": resize(rings, (80, 80), order="lanczos"),
    }
    figure, axes = plt.subplots(2, 4, figsize=(10, 5.2))
    for row, images, title in zip(axes, (enlarged, shrunk), ("10 times larger", "3 times smaller")):
        for axis, (name, image) in zip(row, images.items()):
            axis.imshow(image[0, ..., 0], cmap="gray", interpolation="none")
            axis.set_title(f"{title}: {name}", fontsize=9)
            axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(OUTPUT, dpi=70)


if __name__ == "__main__":
    main()
