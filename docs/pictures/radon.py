"""Draws docs/images/ops_radon.png and ops_filters.png: python docs/pictures/radon.py."""

import pathlib

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

from jaxmedgen.ops.distance import distance_transform
from jaxmedgen.ops.filters import gaussian_filter, median_filter, sobel
from jaxmedgen.ops.radon import parallel_angles, radon
from jaxmedgen.ops.reconstruction_kernel import change_kernel, hu_to_attenuation

IMAGES = pathlib.Path(__file__).parents[1] / "images"


def torso() -> np.ndarray:
    """A chest of ellipses in HU, 256 x 256, with noise as a scanner leaves it."""
    n = 256
    rows, columns = np.indices((n, n)) - n // 2

    def paint(row, column, height, width, value):
        image[((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 <= 1] = value

    image = np.full((n, n), -1000.0)
    paint(0, 0, 85, 110, 40)
    paint(0, -50, 55, 35, -850)
    paint(0, 50, 55, 35, -850)
    paint(10, 50, 12, 12, -450)
    paint(60, 0, 12, 12, 500)
    rng = np.random.default_rng(0)
    for _ in range(24):
        side, size = rng.choice((-50, 50)), rng.uniform(1.5, 4)
        paint(rng.uniform(-40, 40), side + rng.uniform(-22, 22), size, size, -100)
    body = ndimage.gaussian_filter(image, 0.7)
    grain = ndimage.gaussian_filter(rng.normal(0, 60, (n, n)), 0.8)
    return (body + grain * (image > -1000)).astype(np.float32)


def show(panels: list, name: str) -> None:
    """One row of titled grey images."""
    figure, axes = plt.subplots(1, len(panels), figsize=(2.6 * len(panels), 2.9))
    for axis, (title, image, low, high) in zip(axes, panels):
        axis.imshow(image, cmap="gray", vmin=low, vmax=high, aspect="auto")
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.tight_layout(pad=0.4)
    figure.savefig(IMAGES / name, dpi=70)
    plt.close(figure)


def main() -> None:
    """Makes both pictures."""
    image = torso()
    x = jnp.asarray(image)[None, ..., None]
    sinogram = np.asarray(radon(hu_to_attenuation(x), parallel_angles(128))[0, ..., 0])
    a, b = jnp.array([0.0, -1.0, 30.0]), jnp.array([1.0, 0.7, 3.0])
    plain, smooth, sharp = np.asarray(
        change_kernel(jnp.broadcast_to(x, (3, 256, 256, 1)), a, b, angles=128)
    )[..., 0]
    show(
        [
            ("slice", image, -1350, 350),
            ("sinogram: angle down, bin across", sinogram, 0, sinogram.max()),
            ("reconstructed, a = 0", plain, -1350, 350),
            ("smooth, a = -1, b = 0.7", smooth, -1350, 350),
            ("sharp, a = 30, b = 3", sharp, -1350, 350),
        ],
        "ops_radon.png",
    )
    rng = np.random.default_rng(1)
    specks = np.where(rng.uniform(size=image.shape) < 0.03, 1000, image)
    noisy = jnp.asarray(specks, jnp.float32)[None, ..., None]
    edges = jnp.linalg.norm(sobel(gaussian_filter(x, 1.5)), axis=-1)
    depth = distance_transform(jnp.asarray(ndimage.binary_fill_holes(image > -500))[None])
    show(
        [
            ("3 % impulses", specks, -1350, 350),
            ("median 3 x 3", median_filter(noisy)[0, ..., 0], -1350, 350),
            ("Gaussian, sigma 3", gaussian_filter(x, 3.0)[0, ..., 0], -1350, 350),
            ("Sobel, length", edges[0, ..., 0], 0, 200),
            ("distance to the skin", depth[0], 0, 85),
        ],
        "ops_filters.png",
    )


if __name__ == "__main__":
    main()
