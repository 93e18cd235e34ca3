"""Draws docs/images/ops_groups.png: a lifting convolution commutes with a quarter turn."""

import pathlib

import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from jaxmedgen.ops.group_conv import lift_conv
from jaxmedgen.ops.groups import act_on_image, point_group

OUTPUT = pathlib.Path(__file__).parents[1] / "images" / "ops_groups.png"


def main() -> None:
    """Writes the picture."""
    group = point_group("p4")
    image = resize(shepp_logan_phantom(), (72, 72), anti_aliasing=True).astype(np.float32)
    image[20:30, 34:40] += 0.4  # something without symmetry
    a, b = np.mgrid[-2:3, -2:3] / 2
    edge = (-a * np.exp(-(a**2) - b**2)).astype(np.float32)  # answers to edges across axis 0
    x = jnp.asarray(image)[None, ..., None]
    rows = [x, act_on_image(x, group.matrices[1])]
    figure, axes = plt.subplots(2, 5, figsize=(10, 4.3))
    for row, (axis, volume) in enumerate(zip(axes, rows)):
        field = lift_conv(volume, jnp.asarray(edge)[..., None, None], group)
        axis[0].imshow(volume[0, ..., 0], cmap="gray")
        axis[0].set_title("image" if row == 0 else "image, turned by 90°", fontsize=9)
        for g in range(4):
            axis[1 + g].imshow(field[0, ..., g, 0], cmap="RdBu", vmin=-1.2, vmax=1.2)
            axis[1 + g].set_title(f"field, g = {90 * g}°", fontsize=9)
    for axis in axes.ravel():
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(OUTPUT, dpi=80)
    Image.open(OUTPUT).convert("RGB").quantize(96).save(OUTPUT, optimize=True)


if __name__ == "__main__":
    main()
