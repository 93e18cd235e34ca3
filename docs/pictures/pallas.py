"""Picture of docs/ops/pallas.md: python docs/pictures/pallas.py."""

import pathlib

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxmedgen.ops.kernels.conv_pallas_tpu import banded

TARGET = pathlib.Path(__file__).parents[1] / "images" / "ops_pallas.png"


def main() -> None:
    """Draws the matrix of one pair of depth and height tap for 8 channels."""
    kernel = np.random.default_rng(0).uniform(0.3, 1.0, size=(1, 1, 3, 8, 8))
    band = np.asarray(banded(jnp.asarray(kernel, jnp.float32), tile=16, reach=256))[0]
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    shown = np.ma.masked_equal(band.T, 0)
    axes.imshow(shown, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlabel("lanes of input: position x channel (256, the last 112 not needed)")
    axes.set_ylabel("lanes of output")
    axes.set_xticks(range(0, 257, 32))
    axes.set_yticks(range(0, 129, 32))
    axes.grid(color="0.85", linewidth=0.5)
    axes.set_axisbelow(True)
    figure.savefig(TARGET, dpi=90)


if __name__ == "__main__":
    main()
