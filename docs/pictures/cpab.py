"""Picture of docs/ops/cpab.md: tessellation and velocity, the flow, an image moved there and back.

python docs/pictures/cpab.py
"""

import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import PIL.Image

from jaxmedgen.ops.cpab import cpab_coordinates, cpab_prior_sample, cpab_velocity
from jaxmedgen.ops.cpab_tessellation import Tessellation, simplices, vertices
from jaxmedgen.ops.fields import identity_grid
from jaxmedgen.ops.resample import resample

matplotlib.use("agg")
import matplotlib.pyplot as plt

SIZE = 96
SPACE = Tessellation((3, 3))
OUT = pathlib.Path(__file__).parents[1] / "images" / "ops_cpab.png"


def main() -> None:
    """Draws and saves the picture."""
    keys = jax.random.split(jax.random.key(1), 1)
    theta = cpab_prior_sample(keys, SPACE, scale=0.6, length=0.5)
    shape = (SIZE, SIZE)
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.9), constrained_layout=True)
    at = jnp.stack(jnp.meshgrid(*[jnp.linspace(0.02, 0.98, 17)] * 2, indexing="ij"), -1)
    arrows = np.asarray(cpab_velocity(theta, at[None], SPACE))[0]
    corners = vertices(SPACE)
    axes[0].triplot(corners[:, 1], corners[:, 0], simplices(SPACE), color="grey", linewidth=0.8)
    axes[0].quiver(
        at[..., 1], at[..., 0], arrows[..., 1], arrows[..., 0], color="teal", angles="xy"
    )
    axes[0].set(title="cells and velocity", xlim=(-0.02, 1.02), ylim=(1.02, -0.02), aspect="equal")

    moved = cpab_coordinates(theta, shape, SPACE)
    for k in range(0, SIZE, 5):
        axes[1].plot(moved[0, k, :, 1], moved[0, k, :, 0], color="teal", linewidth=0.7)
        axes[1].plot(moved[0, :, k, 1], moved[0, :, k, 0], color="teal", linewidth=0.7)
    axes[1].set(title="grid after the flow", xlim=(-1, SIZE), ylim=(SIZE, -1), aspect="equal")

    centre = identity_grid(shape) - (SIZE - 1) / 2
    radius = jnp.linalg.norm(centre * jnp.asarray([1.0, 1.25]), axis=-1)
    image = 0.3 + 0.7 * jnp.cos(radius / 5) ** 2 * (radius < 42)
    image = image[None, ..., None]
    there = resample(image, moved)
    back = resample(there, cpab_coordinates(-theta, shape, SPACE))
    axes[2].imshow(there[0, ..., 0], cmap="gray")
    axes[2].set(title="image under T")
    axes[3].imshow(back[0, ..., 0], cmap="gray")
    axes[3].set(title="and back")
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    figure.savefig(OUT, dpi=80)
    PIL.Image.open(OUT).convert("RGB").quantize(48).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
