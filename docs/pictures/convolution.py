"""Draws docs/images/ops_convolution.png: what padding and transposed kernels do at a glance."""

import pathlib

import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from jaxmedgen.ops.conv import conv, conv_transpose

OUTPUT = pathlib.Path(__file__).parents[1] / "images" / "ops_convolution.png"
PADDINGS = ("SAME", "REFLECT", "CIRCULAR", "EDGE", "VALID")
KERNELS = ((2, 2), (3, 2), (4, 2), (3, 3), (5, 3))  # taps, stride


def main() -> None:
    """Writes the picture."""
    image = resize(shepp_logan_phantom(), (96, 96), anti_aliasing=True)[4:84, 16:80]
    image = image.astype(np.float32)
    x, mean = jnp.asarray(image)[None, ..., None], jnp.full((15, 15, 1, 1), 1 / 225)
    figure, axes = plt.subplots(2, 5, figsize=(10, 4.4))
    for axis, padding in zip(axes[0], PADDINGS):
        axis.imshow(conv(x, mean, padding=padding)[0, ..., 0], cmap="gray", vmin=0, vmax=0.45)
        axis.set_title(f"mean of 15²,\n{padding}", fontsize=9)
    for axis, (taps, stride) in zip(axes[1], KERNELS):
        ones = jnp.ones((1, 6, 6, 1)), jnp.ones((taps, taps, 1, 1))
        axis.imshow(conv_transpose(*ones, stride=stride)[0, ..., 0], cmap="viridis", vmin=0, vmax=4)
        axis.set_title(f"transposed, ones:\nkernel {taps}, stride {stride}", fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(OUTPUT, dpi=80)


if __name__ == "__main__":
    main()
