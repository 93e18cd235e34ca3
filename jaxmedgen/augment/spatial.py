"""Random flips, affine maps and diffeomorphic deformations, composed into one resampling.

All maps of a sample become one field of sampling coordinates, ``x'(p) = x(F A phi(p))`` with a flip
F, an affine map A and a diffeomorphism phi; image (linear) and label (nearest) are resampled once.
Lengths are in mm and relative to the centre of the volume.

Ranges and conventions: nnU-Net (Isensee et al. 2021) for flips, rotation and scale. Deformation:
the flow of a stationary velocity, white noise smoothed by a Gaussian and scaled to a root mean
square in mm, so it does not fold.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxmedgen.augment.draws import Draw, split_keys, uniform_table
from jaxmedgen.augment.statistics import value_range
from jaxmedgen.ops.affine import affine_matrix, transform_coordinates
from jaxmedgen.ops.fields import identity_grid
from jaxmedgen.ops.random_fields import random_diffeomorphism
from jaxmedgen.ops.resample import resample, resample_labels

Parameters = dict[str, PyTree]
"""Sampled parameters of one stage, arrays with a leading batch axis."""

_ROWS = ("flip", "rotation", "scale", "shear", "translation", "deformation")


@dataclasses.dataclass(frozen=True)
class Spatial:
    """Settings of the spatial stage; what is left at None is not computed.

    Attributes:
        spacing: voxel size in mm, one number a spatial axis.
        flip_axes: spatial axes mirrored independently with probability 1/2.
        rotation: angle in degrees, one about each axis (one in all in 2D).
        scale: factor on the sampling coordinates, an axis each; above 1 shrinks the object.
        shear: angle in degrees, a pair of axes each.
        translation: part of the field of view, an axis each.
        deformation: root mean square of the velocity in mm.
        deformation_sigma: smoothness of the velocity in mm.
        left_right_axis: the axis whose flip swaps sides.
        swap_labels: pairs of labels that change places when sides are swapped.
    """

    spacing: tuple[float | int, ...]
    flip_axes: tuple[int, ...] = ()
    rotation: Draw | None = None
    scale: Draw | None = None
    shear: Draw | None = None
    translation: Draw | None = None
    deformation: Draw | None = None
    deformation_sigma: float | int = 10.0
    left_right_axis: int = 0
    swap_labels: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        axes = len(self.spacing)
        if axes not in (2, 3) or min(self.spacing) <= 0:
            raise ValueError(f"spacing {self.spacing}: give two or three positive sizes in mm")
        for axis in (*self.flip_axes, self.left_right_axis):
            if not 0 <= axis < axes:
                raise ValueError(f"axis {axis} does not exist in {axes}D: use 0 to {axes - 1}")

    @property
    def only_flips(self) -> bool:
        """Whether no interpolation is needed."""
        return not self._affine and self.deformation is None

    @property
    def _affine(self) -> bool:
        return any((self.rotation, self.scale, self.shear, self.translation))


def sample_spatial(settings: Spatial, keys: Key[Array, " b"]) -> Parameters:
    """Draws one set of maps a sample.

    Returns:
        ``flip`` bool ``[b, n]``, ``rotation`` and ``shear`` in degrees, ``scale``, ``translation``
        (part of the field of view), ``deformation`` (RMS in mm, ``[b]``) and ``field_keys``.
    """
    axes = len(settings.spacing)
    planes = axes * (axes - 1) // 2
    table_keys, field_keys = split_keys(keys, 2)
    table = uniform_table(table_keys, len(_ROWS), 1 + 2 * axes)
    row = {name: table[:, i] for i, name in enumerate(_ROWS)}
    may_flip = np.isin(np.arange(axes), settings.flip_axes)

    def draw(name: str, size: int, neutral: float) -> Float[Array, " b size"]:
        setting = getattr(settings, name)
        if setting is None:
            return jnp.full((table.shape[0], size), neutral)
        return setting(row[name], size, neutral=neutral, balanced=name == "scale")

    return {
        "flip": (row["flip"][:, :axes] < 0.5) & may_flip,
        "rotation": draw("rotation", planes, 0.0),
        "scale": draw("scale", axes, 1.0),
        "shear": draw("shear", planes, 0.0),
        "translation": draw("translation", axes, 0.0),
        "deformation": draw("deformation", 1, 0.0)[:, 0],
        "field_keys": field_keys,
    }


def sampling_coordinates(
    settings: Spatial, parameters: Parameters, shape: tuple[int, ...]
) -> Float[Array, " b *s n"]:
    """The composed map of each sample: where every output voxel looks, in voxels."""
    if len(shape) != len(settings.spacing):
        raise ValueError(
            f"spacing {settings.spacing} for a volume of shape {shape}: give one size an axis"
        )
    spacing = settings.spacing
    coordinates = identity_grid(shape)[None]
    if settings.deformation is not None:
        coordinates = coordinates + random_diffeomorphism(
            parameters["field_keys"],
            shape,
            spacing,
            sigma=settings.deformation_sigma,
            rms=parameters["deformation"],
        )
    extent = jnp.asarray([n * s for n, s in zip(shape, spacing)])
    matrix = affine_matrix(
        jnp.deg2rad(parameters["rotation"]),
        parameters["scale"],
        jnp.tan(jnp.deg2rad(parameters["shear"])),
        parameters["translation"] * extent,
    )
    sign = jnp.where(parameters["flip"], -1.0, 1.0)  # [b, n]
    matrix = matrix.at[:, :-1].multiply(sign[:, :, None])
    return transform_coordinates(matrix, coordinates, shape, spacing)


def apply_spatial(
    settings: Spatial,
    parameters: Parameters,
    image: Float[Array, " b *s c"],
    label: Int[Array, " b *s"],
) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
    """Moves image and label by the same map, each resampled once.

    Outside of the volume the image takes the minimum of its sample and channel (air) and the label
    0. Label values, ignore labels among them, are never mixed.
    """
    shape = label.shape[1:]
    if settings.only_flips:
        image = _flip(image, parameters["flip"])
        label = _flip(label, parameters["flip"])
    else:
        coordinates = sampling_coordinates(settings, parameters, shape)
        air, _ = value_range(image)
        image = resample(image, coordinates, mode="constant", fill=air)
        label = resample_labels(label, coordinates)
    return image, swap_sides(settings, parameters, label)


def swap_sides(
    settings: Spatial, parameters: Parameters, label: Int[Array, " b *s"]
) -> Int[Array, " b *s"]:
    """Exchanges left and right labels of samples that were flipped along the left-right axis."""
    swapped = label
    for left, right in settings.swap_labels:
        swapped = jnp.where(label == left, right, jnp.where(label == right, left, swapped))
    sides = parameters["flip"][:, settings.left_right_axis]
    return jnp.where(sides.reshape(-1, *(1,) * (label.ndim - 1)), swapped, label)


def _flip(x, flip):
    for axis in range(flip.shape[1]):
        on = flip[:, axis].reshape(-1, *(1,) * (x.ndim - 1))
        x = jnp.where(on, jnp.flip(x, axis + 1), x)
    return x
