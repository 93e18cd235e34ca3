"""Images of random contrast from label maps, inside the training step.

The label map is deformed, every label gets a random Gaussian of intensities, and a random scanner
follows: bias field, gamma, slice thickness, noise. A network trained on such images has seen every
contrast and so depends on none.

Source: Billot et al., "SynthSeg: Segmentation of brain MRI scans of any contrast and resolution
without retraining", Medical Image Analysis 86, 2023; ranges after its table of hyperparameters,
intensities scaled from 0..255 to 0..1. Differences: smoothness and strength of the deformation are
in mm, slices are up to five voxels thick (there 9 mm), and tissue outside of the labels is made up.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.augment.background import background_shells, soft_distance
from jaxmedgen.augment.draws import Draw, choose, split_keys, uniform_table
from jaxmedgen.augment.spatial import Spatial, sample_spatial, sampling_coordinates, swap_sides
from jaxmedgen.augment.statistics import lift, power, value_range
from jaxmedgen.ops.filters import gaussian_filter
from jaxmedgen.ops.random_fields import random_smooth_field
from jaxmedgen.ops.resample import resample_labels
from jaxmedgen.ops.resize import apply_matrices, low_resolution_matrix

NORMALIZATIONS = ("zscore", "minmax")
_AIR = 0.1  # intensities of air over those of tissue
_MARGIN = 3.0  # mm, largest rim that brain extraction leaves


@dataclasses.dataclass(frozen=True)
class LabelToImage:
    """Settings of the generative model; callable on keys and label maps.

    Attributes:
        spacing: voxel size in mm, one number a spatial axis.
        spatial: random maps of the label; by default a left-right (axis 0) flip, rotation, scale,
            shear, translation and a diffeomorphism.
        target_of: class of each generation label, for generation labels finer than the classes;
            values beyond its length (ignore labels) are returned as they are.
        labels: number of generation labels with a contrast of their own; higher values share them
            modulo `labels`.
        contrast_means: range of mean intensities of each generation label, where a family of
            contrasts is wanted; all labels draw from `mean` when left out.
        mean: range of mean intensities.
        deviation: range of standard deviations within a label.
        background_regions: largest number of made-up tissue shells around the labelled anatomy; 0
            draws one intensity for the whole background or makes it air.
        shared_contrasts: pairs of labels (left, right) with one contrast; those that the spatial
            stage swaps always share theirs.
        strip_probability: chance that the anatomy is cut out as by brain extraction: nothing
            outside, not even noise, beyond a margin of 0 to 3 mm.
        partial_volume: blur of the label borders, sigma in voxels.
        bias: deviation of the log bias field.
        gamma: deviation of the log exponent.
        thickness: slice thickness in voxels, along one axis or (one time in three) all of them.
        noise: standard deviation of the noise of the acquired slices.
        normalization: "zscore" (mean 0, deviation 1) or "minmax" (0 to 1) of the image.
    """

    spacing: tuple[float | int, ...]
    spatial: Spatial | None = None
    target_of: tuple[int, ...] | None = None
    labels: int = 256
    contrast_means: tuple[tuple[float | int, float | int], ...] | None = None
    shared_contrasts: tuple[tuple[int, int], ...] = ()
    mean: tuple[float | int, float | int] = (0.0, 1.0)
    deviation: tuple[float | int, float | int] = (0.0, 0.14)
    background_regions: int = 4
    strip_probability: float | int = 0.3
    partial_volume: Draw = Draw(0.3, 0.8)  # noqa: RUF009 (frozen)
    bias: Draw = Draw(0.0, 0.5)  # noqa: RUF009
    gamma: float | int = 0.4
    thickness: Draw = Draw(1.0, 5.0, p=0.5)  # noqa: RUF009
    noise: Draw = Draw(0.0, 0.05, p=0.9)  # noqa: RUF009
    normalization: str = "zscore"

    def __post_init__(self) -> None:
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(
                f"normalization {self.normalization!r} is unknown: use one of {NORMALIZATIONS}"
            )
        if self.contrast_means is not None and len(self.contrast_means) > self.labels:
            raise ValueError(
                f"{len(self.contrast_means)} contrast_means for {self.labels} labels: raise labels"
            )
        if self.spatial is not None and len(self.spatial.spacing) != len(self.spacing):
            raise ValueError(f"spatial stage of {self.spatial.spacing} for spacing {self.spacing}")

    def __call__(
        self, keys: Key[Array, " b"], label: Int[Array, " b *s"]
    ) -> tuple[Float[Array, " b *s 1"], Int[Array, " b *s"]]:
        """One synthetic image and its class map a sample.

        Args:
            keys: one key a sample.
            label: generation labels, 0 outside of the anatomy.

        Returns:
            Image of one channel, normalised, and classes (`target_of` of the deformed label).
        """
        move_keys, table_keys, shell_keys, tissue_keys, bias_keys, noise_keys = split_keys(keys, 6)
        moves = self.spatial or default_spatial(self.spacing)
        drawn = sample_spatial(moves, move_keys)
        coordinates = sampling_coordinates(moves, drawn, label.shape[1:])
        label = swap_sides(moves, drawn, resample_labels(label, coordinates))

        # Rows: mean and deviation of each kind of tissue; the rest, see `_scanner`.
        kinds = self.labels + 1 + self.background_regions  # labels, air, shells
        u = uniform_table(table_keys, 7, max(kinds, 5))
        distance = soft_distance(label != 0, self.spacing)
        outside = _lift(u[:, 2, 0] < self.strip_probability, label) & (label == 0)
        kind = self._kinds(shell_keys, u[:, 2, 1], label, distance)
        image = self._tissue(tissue_keys, u[:, :2, :kinds], kind)
        image = jnp.where(outside[..., None], 0.0, image)
        image = self._scanner(bias_keys, noise_keys, u[:, 2:], image)
        # Extraction follows the scan: its smooth mask leaves neither noise nor blur outside.
        outside &= distance > _MARGIN * _lift(u[:, 2, 2], label)
        image = jnp.where(outside[..., None], 0.0, image)
        return self._normalize(image), self._target(label)

    def _kinds(self, keys, dark, label, distance):
        """Kind of tissue of each voxel: its label, air, or a shell of the background."""
        air = self.labels
        if self.background_regions:
            shells = background_shells(keys, distance, self.spacing, shells=self.background_regions)
            background = air + shells
        else:
            # An even chance of a background as dark as air or of any intensity.
            background = jnp.where(_lift(dark < 0.5, label), air, 0)
        return jnp.where(label == 0, background, label % self.labels)

    def _tissue(self, keys, u, kind):
        """Gaussian intensities a kind of tissue, ``[b, *s, 1]``, around 0..1."""
        kinds, air = u.shape[2], self.labels
        ranges = np.tile(np.asarray(self.mean, np.float32), (kinds, 1))
        if self.contrast_means is not None:
            ranges[: len(self.contrast_means)] = self.contrast_means
        mean = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * u[:, 0]
        low, high = self.deviation
        deviation = low + (high - low) * u[:, 1]
        table = jnp.stack([mean, deviation], -1).at[:, air].multiply(_AIR)
        table = table[:, self._contrast_of(kinds)]

        def paint(key, kind, table):
            mean, deviation = jnp.moveaxis(table[kind], -1, 0)
            return jnp.maximum(mean + deviation * jax.random.normal(key, kind.shape), 0.0)

        return jax.vmap(paint)(keys, kind, table)[..., None]

    def _scanner(self, bias_keys, noise_keys, u, image):
        """Partial volume, bias field, gamma, slice thickness and noise."""
        axes, shape = image.ndim - 2, image.shape[1:-1]
        partial_volume = self.partial_volume(u[:, 1], 1, neutral=0.0)[:, 0]
        bias = _lift(self.bias(u[:, 2], 1, neutral=0.0)[:, 0], image)
        thickness = self.thickness(u[:, 3], 1, neutral=1.0)[:, 0]
        noise = _lift(self.noise(u[:, 4], 1, neutral=0.0)[:, 0], image)
        exponent = jnp.exp(self.gamma * ndtri(jnp.clip(u[:, 0, 3], 1e-4, 1 - 1e-4)))
        axis = jnp.floor(u[:, 0, 4] * 1.5 * axes)  # beyond the last one, a time in three: all axes

        image = gaussian_filter(image, partial_volume)
        sigma = tuple(n / 5 for n in shape)
        image = image * jnp.exp(bias * random_smooth_field(bias_keys, shape, sigma))
        image = power(_minmax(image), exponent[:, None])

        every = 1.0 + (thickness - 1.0) / 2.0
        matrix = functools.partial(low_resolution_matrix, down_order=1, up_order=1)
        blurs, slices = [], []
        for d, size in enumerate(shape):
            ratio = jnp.where(axis == d, thickness, jnp.where(axis >= axes, every, 1.0))
            # Full width `ratio` at half maximum, less what one voxel has already.
            blurs.append(jnp.where(ratio > 1.0, 0.42 * jnp.sqrt(ratio**2 - 1.0), 0.0))
            slices.append(jax.vmap(functools.partial(matrix, size))(1.0 / ratio))
        thick = thickness > 1.0
        image = choose(thick, gaussian_filter(image, jnp.stack(blurs, 1)), image)
        white = jax.vmap(lambda key: jax.random.normal(key, image.shape[1:]))(noise_keys)
        image = image + noise * white
        return choose(thick, apply_matrices(image, slices), image)

    def _normalize(self, image):
        if self.normalization == "minmax":
            return _minmax(image)
        space = tuple(range(1, image.ndim))
        mean = image.mean(space, keepdims=True)
        return (image - mean) / jnp.maximum(image.std(space, keepdims=True), 1e-6)

    def _contrast_of(self, kinds):
        """Whose contrast each kind of tissue takes."""
        order = np.arange(kinds)
        swapped = self.spatial.swap_labels if self.spatial is not None else ()
        for left, right in (*swapped, *self.shared_contrasts):
            order[right % self.labels] = left % self.labels
        return order

    def _target(self, label):
        if self.target_of is None:
            return label
        table = jnp.asarray(self.target_of, label.dtype)
        known = (label >= 0) & (label < len(self.target_of))
        return jnp.where(known, table[jnp.where(known, label, 0)], label)


def default_spatial(spacing: tuple[float | int, ...]) -> Spatial:
    """The source's affine ranges and a diffeomorphism of 1 to 4 mm RMS, smooth over 10 mm."""
    return Spatial(
        spacing=spacing,
        flip_axes=(0,),
        rotation=Draw(-20, 20),
        scale=Draw(0.8, 1.2),
        shear=Draw(-0.9, 0.9),
        translation=Draw(-0.08, 0.08),
        deformation=Draw(1, 4, p=0.9),
    )


def _lift(value, like):
    """``[b]`` to a shape that broadcasts against `like`."""
    return value.reshape(-1, *(1,) * (like.ndim - 1))


def _minmax(image):
    low, high = (lift(value, image) for value in value_range(image))
    return (image - low) / jnp.maximum(high - low, 1e-6)
