"""Random flips, affine maps and deformations, composed into one resampling.

All maps of a sample become one field of sampling coordinates, ``x'(p) = x(psi F A phi(p))`` with a
deformation psi of a learned model, which is made for the sample as it is and so looks at it last, a
flip F, an affine map A and a deformation phi (`deformation.py` lists the kinds; several are
composed); image (linear) and label (nearest, unless set otherwise) are resampled once. Lengths are
in mm and relative to the centre of the volume.

Ranges and conventions: nnU-Net (Isensee et al. 2021) for flips, rotation and scale.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxmedgen.augment.deformation import (
    mirrored,
    random_geodesic,
    random_relative_displacement,
)
from jaxmedgen.augment.draws import Draw, fold_keys, split_keys, uniform_table
from jaxmedgen.augment.statistics import value_range
from jaxmedgen.ops.affine import affine_matrix, transform_coordinates
from jaxmedgen.ops.control_grids import random_bspline_displacement
from jaxmedgen.ops.fields import compose, identity_grid
from jaxmedgen.ops.random_fields import random_diffeomorphism, random_elastic_displacement
from jaxmedgen.ops.resample import resample, resample_labels

Parameters = dict[str, PyTree]
"""Sampled parameters of one stage, arrays with a leading batch axis."""

SampleField = Callable[[Key[Array, " b"]], Float[Array, " b *s n"]]
"""Displacement fields in voxels from keys: a learned deformation model, or its cached samples."""

_ROWS = ("flip", "rotation", "scale", "shear", "translation", "deformation")
# Drawn from a table of their own: older presets keep their random numbers.
_MORE_ROWS = ("affine", "geodesic", "elastic", "elastic_noise", "elastic_relative", "learned")
_ELASTIC = _MORE_ROWS[1:-1]
_STRENGTHS = (0.125, 0.5)  # of `elastic_relative`


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
        affine_p: probability that rotation, scale, shear and translation happen at all, jointly.
        deformation: root mean square of a stationary velocity in mm.
        geodesic: strength of a geodesic: see `geodesic_by`.
        geodesic_by: ``rms`` of the initial velocity in mm, or kinetic ``energy`` in mm^2.
        deformation_sigma: smoothness of both in mm.
        elastic: size of B-spline control points' displacement in mm: half-width of the uniform or
            deviation of the normal distribution.
        elastic_controls: control points an axis.
        elastic_locked: outer layers of them that stay where they are.
        elastic_distribution: ``uniform`` or ``normal``.
        elastic_noise: alpha of smoothed noise, in voxels.
        elastic_noise_sigma: range of its width, in voxels.
        elastic_relative: nnU-Net's deformation scale, a part of the volume.
        sample_field: makes deformations by a learned model, which the others then move.
        sample_field_p: their probability.
        border: beyond the volume, ``constant`` (air and label 0) or ``reflect``.
        fill: value of the air, one or ``[b, c]``; by default each sample and channel's minimum.
        image_order: sampling of images, 0 nearest, 1 linear, 3 cubic (nnU-Net), which may overshoot
            beside sharp edges.
        label_order: of labels, 0 nearest; 1 the label of the largest linear weight (nnU-Net's
            linear one-hot), with smoother borders.
        left_right_axis: the axis whose flip swaps sides.
        swap_labels: pairs of labels that change places when sides are swapped.
    """

    spacing: tuple[float | int, ...]
    flip_axes: tuple[int, ...] = ()
    rotation: Draw | None = None
    scale: Draw | None = None
    shear: Draw | None = None
    translation: Draw | None = None
    affine_p: float | int = 1.0
    deformation: Draw | None = None
    geodesic: Draw | None = None
    geodesic_by: Literal["rms", "energy"] = "rms"
    deformation_sigma: float | int = 10.0
    elastic: Draw | None = None
    elastic_controls: int = 7
    elastic_locked: int = 2
    elastic_distribution: Literal["uniform", "normal"] = "uniform"
    elastic_noise: Draw | None = None
    elastic_noise_sigma: tuple[float | int, float | int] = (9.0, 13.0)
    elastic_relative: Draw | None = None
    sample_field: SampleField | None = None
    sample_field_p: float | int = 1.0
    border: Literal["constant", "reflect"] = "constant"
    fill: Float[Array, " b c"] | float | int | None = None
    image_order: Literal[0, 1, 3] = 1
    label_order: Literal[0, 1] = 0
    left_right_axis: int = 0
    swap_labels: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        axes = len(self.spacing)
        if axes not in (2, 3) or min(self.spacing) <= 0:
            raise ValueError(f"spacing {self.spacing}: give two or three positive sizes in mm")
        for axis in (*self.flip_axes, self.left_right_axis):
            if not 0 <= axis < axes:
                raise ValueError(f"axis {axis} does not exist in {axes}D: use 0 to {axes - 1}")
        for name in ("affine_p", "sample_field_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} is no probability: use 0 to 1")

    @property
    def only_flips(self) -> bool:
        """Whether no interpolation is needed."""
        return not self._affine and not self._deforms

    @property
    def _deforms(self) -> bool:
        return any(getattr(self, name) for name in ("deformation", "sample_field", *_ELASTIC))

    @property
    def _affine(self) -> bool:
        return any((self.rotation, self.scale, self.shear, self.translation))


def sample_spatial(settings: Spatial, keys: Key[Array, " b"]) -> Parameters:
    """Draws one set of maps a sample.

    Returns:
        ``flip`` bool ``[b, n]``, ``rotation`` and ``shear`` in degrees, ``scale``, ``translation``
        (part of the field of view), ``deformation`` (RMS in mm, ``[b]``), ``field_keys``, and the
        amplitudes ``[b]`` of the other kinds of deformation that are enabled.
    """
    axes = len(settings.spacing)
    planes = axes * (axes - 1) // 2
    table_keys, field_keys = split_keys(keys, 2)
    table = uniform_table(table_keys, len(_ROWS), 1 + 2 * axes)
    more = uniform_table(fold_keys(table_keys, 1), len(_MORE_ROWS), 4)
    row = {name: table[:, i] for i, name in enumerate(_ROWS)}
    row |= {name: more[:, i] for i, name in enumerate(_MORE_ROWS)}
    may_flip = np.isin(np.arange(axes), settings.flip_axes)
    moved = row["affine"][:, :1] < settings.affine_p

    def draw(name: str, size: int, neutral: float) -> Float[Array, " b size"]:
        setting = getattr(settings, name)
        if setting is None:
            return jnp.full((table.shape[0], size), neutral)
        return setting(row[name], size, neutral=neutral, balanced=name == "scale")

    def affine(name: str, size: int, neutral: float) -> Float[Array, " b size"]:
        return jnp.where(moved, draw(name, size, neutral), neutral)

    parameters: Parameters = {
        "flip": (row["flip"][:, :axes] < 0.5) & may_flip,
        "rotation": affine("rotation", planes, 0.0),
        "scale": affine("scale", axes, 1.0),
        "shear": affine("shear", planes, 0.0),
        "translation": affine("translation", axes, 0.0),
        "deformation": draw("deformation", 1, 0.0)[:, 0],
        "field_keys": field_keys,
    }
    for name in _ELASTIC:
        if getattr(settings, name) is not None:
            parameters[name] = draw(name, 1, 0.0)[:, 0]
    for name, (low, high) in (
        ("elastic_noise", settings.elastic_noise_sigma),
        ("elastic_relative", _STRENGTHS),
    ):
        if name in parameters:
            parameters[f"{name}_width"] = low + (high - low) * row[name][:, 3]
    if settings.sample_field is not None:
        parameters["learned"] = row["learned"][:, 0] < settings.sample_field_p
    return parameters


def displacements(
    settings: Spatial, parameters: Parameters, shape: tuple[int, ...]
) -> list[Float[Array, " b *s n"]]:
    """The enabled random deformations in voxels, in the order of composition."""
    spacing, keys = settings.spacing, parameters["field_keys"]
    smooth = {"sigma": settings.deformation_sigma}
    fields = []
    if settings.deformation is not None:
        rms = parameters["deformation"]
        fields.append(random_diffeomorphism(keys, shape, spacing, rms=rms, **smooth))
    if settings.geodesic is not None:
        by = {settings.geodesic_by: parameters["geodesic"]}
        fields.append(random_geodesic(fold_keys(keys, 1), shape, spacing, **by, **smooth))
    if settings.elastic is not None:
        field = random_bspline_displacement(
            fold_keys(keys, 2),
            shape,
            spacing,
            amplitude=parameters["elastic"],
            controls=settings.elastic_controls,
            locked_layers=settings.elastic_locked,
            distribution=settings.elastic_distribution,
        )
        fields.append(field)
    if settings.elastic_noise is not None:
        width = jnp.maximum(parameters["elastic_noise_width"], 1e-3)
        alpha = parameters["elastic_noise"]
        key = fold_keys(keys, 3)
        fields.append(random_elastic_displacement(key, shape, alpha=alpha, sigma=width))
    if settings.elastic_relative is not None:
        scale, strength = (parameters["elastic_relative" + end] for end in ("", "_width"))
        key = fold_keys(keys, 4)
        fields.append(random_relative_displacement(key, shape, scale=scale, strength=strength))
    return fields


def _learned(settings, parameters):
    """The learned model's deformations in voxels, zero where there is none."""
    field = settings.sample_field(fold_keys(parameters["field_keys"], 5))
    return jnp.where(parameters["learned"].reshape(-1, *(1,) * (field.ndim - 1)), field, 0.0)


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
    fields = displacements(settings, parameters, shape)
    if fields:
        coordinates = coordinates + functools.reduce(compose, fields)
    extent = jnp.asarray([n * s for n, s in zip(shape, spacing)])
    matrix = affine_matrix(
        jnp.deg2rad(parameters["rotation"]),
        parameters["scale"],
        jnp.tan(jnp.deg2rad(parameters["shear"])),
        parameters["translation"] * extent,
    )
    sign = jnp.where(parameters["flip"], -1.0, 1.0)  # [b, n]
    matrix = matrix.at[:, :-1].multiply(sign[:, :, None])
    coordinates = transform_coordinates(matrix, coordinates, shape, spacing)
    reflect = settings.border == "reflect"
    if settings.sample_field is not None:
        coordinates = mirrored(coordinates, shape) if reflect else coordinates
        coordinates = coordinates + resample(_learned(settings, parameters), coordinates)
    return mirrored(coordinates, shape) if reflect else coordinates


def apply_spatial(
    settings: Spatial,
    parameters: Parameters,
    image: Float[Array, " b *s c"],
    label: Int[Array, " b *s"],
) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
    """Moves image and label by the same map, each resampled once.

    Outside of the volume the image takes `Spatial.fill` (by default the minimum of its sample and
    channel, air) and the label 0, unless the border is mirrored. Label values, ignore labels among
    them, are never mixed.
    """
    shape = label.shape[1:]
    if settings.only_flips:
        image = _flip(image, parameters["flip"])
        label = _flip(label, parameters["flip"])
    else:
        coordinates = sampling_coordinates(settings, parameters, shape)
        air = value_range(image)[0] if settings.fill is None else settings.fill
        # A spline takes up what lies beyond the border, even where nothing there is sampled.
        sampling = {"order": settings.image_order, "mode": settings.border, "fill": air}
        image = resample(image, coordinates, **sampling)
        label = resample_labels(label, coordinates, order=settings.label_order)
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
