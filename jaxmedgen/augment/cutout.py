"""Cutout: boxes of the image are blotted out (DeVries & Taylor 2017), in 2D and 3D."""

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxmedgen.augment.draws import split_keys, uniform_table
from jaxmedgen.augment.spatial import Parameters
from jaxmedgen.augment.statistics import lift, value_range

CutLabel = Literal["keep", "background", "ignore"]
CutFill = Literal["constant", "noise", "uniform"]


@dataclasses.dataclass(frozen=True)
class Cutout:
    """Settings of cutout.

    Attributes:
        boxes: smallest and largest number of boxes.
        side: range of a box's side over the image's, an axis each.
        p: probability that a sample is cut.
        fill: ``constant`` (0, the mean of a z-scored image), ``noise`` (standard normal), or
            ``uniform`` (noise between the least and the largest value of the sample and channel).
        label: inside of the boxes, ``keep`` the label, or set it to ``background`` (0) or
            ``ignore``.
        ignore_label: value for ``ignore``; the loss must know it.
    """

    boxes: tuple[int, int] = (1, 3)
    side: tuple[float | int, float | int] = (0.1, 0.4)
    p: float | int = 0.5
    fill: CutFill | str = "constant"
    label: CutLabel = "keep"
    ignore_label: int | None = None

    def __post_init__(self) -> None:
        few, many = self.boxes
        if not 1 <= few <= many:
            raise ValueError(f"boxes {self.boxes}: give a smallest and largest number, 1 <= a <= b")
        if not 0 < self.side[0] <= self.side[1] <= 1:
            raise ValueError(f"side {self.side}: give a range within (0, 1]")
        if self.fill not in get_args(CutFill):
            raise ValueError(f"fill {self.fill!r} is unknown: use {' or '.join(get_args(CutFill))}")
        if not 0 <= self.p <= 1:
            raise ValueError(f"p = {self.p} is no probability: use 0 to 1")
        if self.label == "ignore" and self.ignore_label is None:
            raise ValueError("label='ignore' needs the ignore_label that the loss leaves out")


def sample_cutout(settings: Cutout, keys: Key[Array, " b"], axes: int) -> Parameters:
    """Draws boxes: ``count`` ``[b]`` (0: none), ``centre`` and ``side`` ``[b, boxes, n]`` in 0..1.

    ``noise_keys`` holds one key a sample.
    """
    table_keys, noise_keys = split_keys(keys, 2)
    few, many = settings.boxes
    u = uniform_table(table_keys, 1 + many, 2 * axes)
    count = few + jnp.floor(u[:, 0, 1] * (many - few + 1)).astype(jnp.int32)
    low, high = settings.side
    return {
        "count": jnp.where(u[:, 0, 0] < settings.p, count, 0),
        "centre": u[:, 1:, :axes],
        "side": low + (high - low) * u[:, 1:, axes:],
        "noise_keys": noise_keys,
    }


def apply_cutout(
    settings: Cutout,
    parameters: Parameters,
    image: Float[Array, " b *s c"],
    label: Int[Array, " b *s"],
) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
    """Blots out the boxes; what of them lies outside of the image is lost."""
    shape = label.shape[1:]
    cut = jnp.zeros(label.shape, bool)
    for box in range(parameters["centre"].shape[1]):
        sides = parameters["side"][:, box] * jnp.asarray(shape, jnp.float32)
        inside = box_mask(parameters["centre"][:, box], sides, shape)
        on = (box < parameters["count"]).reshape(-1, *(1,) * len(shape))
        cut |= inside & on
    fill = jnp.zeros_like(image)
    if settings.fill == "noise":
        draw = jax.vmap(lambda key: jax.random.normal(key, image.shape[1:]))
        fill = draw(parameters["noise_keys"]).astype(image.dtype)
    elif settings.fill == "uniform":
        low, high = (lift(value, image) for value in value_range(image))
        draw = jax.vmap(lambda key: jax.random.uniform(key, image.shape[1:]))
        fill = (low + (high - low) * draw(parameters["noise_keys"])).astype(image.dtype)
    image = jnp.where(cut[..., None], fill, image)
    if settings.label == "keep":
        return image, label
    value = 0 if settings.label == "background" else settings.ignore_label
    return image, jnp.where(cut, jnp.asarray(value, label.dtype), label)


def box_mask(
    centre: Float[Array, " b n"], sides: Float[Array, " b n"], shape: tuple[int, ...]
) -> Bool[Array, " b *s"]:
    """Voxels of one box a sample, clipped to the image.

    Args:
        centre: in 0..1 over the image.
        sides: in voxels, rounded to whole ones.
        shape: of the image.
    """
    inside = jnp.ones((centre.shape[0], *shape), bool)
    for axis, size in enumerate(shape):
        side = jnp.round(sides[:, axis])
        first = jnp.floor(centre[:, axis] * size) - jnp.floor(side / 2)
        at = jnp.arange(size)
        along = (at >= first[:, None]) & (at < (first + side)[:, None])  # [b, size]
        wide = [1] * len(shape)
        wide[axis] = size
        inside &= along.reshape(-1, *wide)
    return inside
