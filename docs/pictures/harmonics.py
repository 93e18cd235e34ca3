"""Draws docs/images/ops_harmonics.png: the real spherical harmonics up to degree 3."""

import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from jaxmedgen.ops.harmonics import real_spherical_harmonics

OUTPUT = pathlib.Path(__file__).parents[1] / "images" / "ops_harmonics.png"
DEGREE = 3


def main() -> None:
    """Writes the picture."""
    polar, azimuth = np.mgrid[0 : np.pi : 41j, 0 : 2 * np.pi : 61j]
    ring = np.sin(polar)
    points = np.stack([ring * np.cos(azimuth), ring * np.sin(azimuth), np.cos(polar)], -1)
    values = real_spherical_harmonics(DEGREE, points)
    figure = plt.figure(figsize=(9, 5.2))
    columns = 2 * DEGREE + 1
    for n in range(DEGREE + 1):
        reach = 0.7 * np.abs(values[..., n * n : (n + 1) ** 2]).max()
        for m in range(-n, n + 1):
            place = n * columns + DEGREE + m + 1
            axis = figure.add_subplot(DEGREE + 1, columns, place, projection="3d")
            y = values[..., n * n + n + m]
            surface = np.moveaxis(np.abs(y)[..., None] * points, -1, 0)
            colors = plt.get_cmap("RdBu")(np.where(y > 0, 0.9, 0.1))
            axis.plot_surface(*surface, facecolors=colors, rstride=1, cstride=1, linewidth=0)
            axis.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
            axis.set_box_aspect((1, 1, 1), zoom=1.1)
            axis.set_axis_off()
            axis.set_title(f"n = {n}, m = {m}", fontsize=8, pad=-4)
    figure.subplots_adjust(0, 0, 1, 0.96, 0, 0.1)
    figure.savefig(OUTPUT, dpi=80)
    Image.open(OUTPUT).convert("RGB").quantize(96).save(OUTPUT, optimize=True)


if __name__ == "__main__":
    main()
