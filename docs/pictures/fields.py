"""Picture of docs/ops/fields.md: a flow, its inverse, its volume change, and control-point fields.

python docs/pictures/fields.py
"""

import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import PIL.Image

from jaxmedgen.ops.control_grids import random_bspline_displacement
from jaxmedgen.ops.field_measures import log_jacobian_determinant
from jaxmedgen.ops.fields import exp_velocity, identity_grid, invert, warp
from jaxmedgen.ops.random_fields import random_velocity
from jaxmedgen.ops.wendland import wendland_control_shape, wendland_field

matplotlib.use("agg")
import matplotlib.pyplot as plt

SIZE = 96
OUT = pathlib.Path(__file__).parents[1] / "images" / "ops_fields.png"


def main() -> None:
    """Draws and saves the picture."""
    keys = jax.random.split(jax.random.key(3), 1)
    shape = (SIZE, SIZE)
    velocity = random_velocity(keys, shape, (1.0, 1.0), sigma=11.0, rms=8.0)
    window = np.sin(np.pi * np.arange(SIZE) / (SIZE - 1)) ** 0.5
    velocity = velocity * jnp.asarray(window[:, None] * window, jnp.float32)[..., None]
    flow = exp_velocity(velocity, steps=None)
    disc = jnp.linalg.norm(identity_grid(shape) - (SIZE - 1) / 2, axis=-1) < 0.33 * SIZE
    image = jnp.where(disc, 1.0, 0.0)[None, ..., None]
    elastic = random_bspline_displacement(keys, shape, (1.0, 1.0), amplitude=8.0)
    grid = wendland_control_shape(shape, 16)
    points = (
        jnp.zeros((1, *grid, 2)).at[0, grid[0] // 2, grid[1] // 2].set(jnp.asarray([11.0, 7.0]))
    )
    bump = wendland_field(points, shape, control_spacing=16, support=2.5)

    figure, axes = plt.subplots(1, 5, figsize=(15, 3.3), constrained_layout=True)
    panels = [
        ("Exp(v)", warp(image, flow), flow),
        ("its inverse", warp(image, invert(flow)), invert(flow)),
        ("log det of Exp(v)", log_jacobian_determinant(flow)[..., None], None),
        ("B-spline grid, 7 x 7", warp(image, elastic), elastic),
        ("one Wendland control point", warp(image, bump), bump),
    ]
    for axis, (title, picture, displacement) in zip(axes, panels):
        if displacement is None:
            shown = axis.imshow(picture[0, ..., 0], cmap="RdBu_r", vmin=-1.5, vmax=1.5)
            figure.colorbar(shown, ax=axis, shrink=0.75)
        else:
            axis.imshow(picture[0, ..., 0], cmap="Greys", vmin=0, vmax=3)
            _draw_grid(axis, np.asarray(displacement[0]))
        axis.set(title=title, xticks=[], yticks=[], xlim=(-1, SIZE), ylim=(SIZE, -1))
    figure.savefig(OUT, dpi=80)
    PIL.Image.open(OUT).convert("RGB").quantize(160).save(OUT, optimize=True)


def _draw_grid(axis, displacement):
    """Lines of the regular grid after the map."""
    moved = np.asarray(identity_grid(displacement.shape[:-1])) + displacement
    for k in range(0, SIZE, 6):
        axis.plot(moved[k, :, 1], moved[k, :, 0], color="teal", linewidth=0.7)
        axis.plot(moved[:, k, 1], moved[:, k, 0], color="teal", linewidth=0.7)


if __name__ == "__main__":
    main()
