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

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.augment.background import background_shells, soft_distance
from jaxmedgen.augment.draws import Draw, choose, split_keys, uniform_table
from jaxmedgen.augment.spatial import Spatial, sample_spatial, sampling_coordinates, swap_sides
from jaxmedgen.ops.fields import gaussian_filter, random_smooth_field
from jaxmedgen.ops.resample import apply_matrices, low_resolution_matrix, resample_labels

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
    mean: Draw = Draw(0.0, 1.0)  # noqa: RUF009 (frozen)
    deviation: Draw = Draw(0.0, 0.14)  # noqa: RUF009
    background_regions: int = 4
    strip_probability: float | int = 0.3
    partial_volume: Draw = Draw(0.3, 0.8)  # noqa: RUF009
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
        parts = split_keys(keys, 9)
        moves = self.spatial or default_spatial(self.spacing)
        drawn = sample_spatial(moves, parts[0])
        coordinates = sampling_coordinates(moves, drawn, label.shape[1:])
        label = swap_sides(moves, drawn, resample_labels(label, coordinates))

        distance = soft_distance(label != 0, self.spacing)
        chance, margin = uniform_table(parts[1], 2, 1)[..., 0].T
        cut = _lift(chance < self.strip_probability, label)
        outside = cut & (label == 0)
        image = self._tissue(parts[2:5], label, distance)
        image = jnp.where(outside[..., None], 0.0, image)
        image = self._scanner(parts[5:9], image)
        # Extraction follows the scan: its smooth mask leaves neither noise nor blur outside.
        outside &= distance > _MARGIN * _lift(margin, label)
        image = jnp.where(outside[..., None], 0.0, image)
        return self._normalize(image), self._target(label)

    def _tissue(self, keys, label, distance):
        """Gaussian intensities a label, ``[b, *s, 1]``, around 0..1."""
        table_keys, shell_keys, noise_keys = keys
        shells, air = self.background_regions, self.labels
        kinds = self.labels + 1 + shells  # labels, air, shells
        u = uniform_table(table_keys, 3, kinds)
        low, high = self._mean_range(kinds)
        mean = low + (high - low) * u[:, 0]
        deviation = self.deviation.low + (self.deviation.high - self.deviation.low) * u[:, 1]
        mean = mean.at[:, air].multiply(_AIR)
        deviation = deviation.at[:, air].multiply(_AIR)
        if shells:
            outside = air + background_shells(shell_keys, distance, self.spacing, shells=shells)
        else:
            # An even chance of a background as dark as air or of any intensity.
            outside = jnp.where(_lift(u[:, 2, 0] < 0.5, label), air, jnp.zeros_like(label))
        kind = jnp.where(label == 0, outside, label % self.labels)

        def paint(key, kind, mean, deviation):
            order = jnp.asarray(self._contrast_of(kinds))
            noise = jax.random.normal(key, kind.shape)
            return mean[order][kind] + deviation[order][kind] * noise

        return jnp.maximum(jax.vmap(paint)(noise_keys, kind, mean, deviation), 0.0)[..., None]

    def _scanner(self, keys, image):
        """Partial volume, bias field, gamma, slice thickness and noise."""
        table_keys, bias_keys, gamma_keys, noise_keys = keys
        axes, shape = image.ndim - 2, image.shape[1:-1]
        u = uniform_table(table_keys, 4, 5)
        image = gaussian_filter(image, self.partial_volume(u[:, 0], 1, neutral=0.0)[:, 0])

        bias = _lift(self.bias(u[:, 1], 1, neutral=0.0)[:, 0], image)
        sigma = tuple(n / 5 for n in shape)
        image = image * jnp.exp(bias * random_smooth_field(bias_keys, shape, sigma))
        exponent = jnp.exp(self.gamma * jax.vmap(jax.random.normal)(gamma_keys))
        image = _minmax(image) ** _lift(exponent, image)

        thickness = self.thickness(u[:, 2], 1, neutral=1.0)[:, 0]
        axis = jnp.floor(u[:, 2, 3] * 1.5 * axes)  # beyond the last one, a time in three: all axes
        every = 1.0 + (thickness - 1.0) / 2.0
        noise = _lift(self.noise(u[:, 3], 1, neutral=0.0)[:, 0], image)
        blurs, slices = [], []
        for d, size in enumerate(shape):
            ratio = jnp.where(axis == d, thickness, jnp.where(axis >= axes, every, 1.0))
            # Full width `ratio` at half maximum, less what one voxel has already.
            blurs.append(jnp.where(ratio > 1.0, 0.42 * jnp.sqrt(ratio**2 - 1.0), 0.0))
            slices.append(
                jax.vmap(
                    lambda zoom, size=size: low_resolution_matrix(
                        size, zoom, down_order=1, up_order=1
                    )
                )(1.0 / ratio)
            )
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

    def _mean_range(self, kinds):
        ranges = [(self.mean.low, self.mean.high)] * kinds
        for i, given in enumerate(self.contrast_means or ()):
            ranges[i] = given
        table = jnp.asarray(ranges, jnp.float32)
        return table[:, 0], table[:, 1]

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
    space = tuple(range(1, image.ndim))
    low, high = image.min(space, keepdims=True), image.max(space, keepdims=True)
    # Clipped, for a fused rounding below 0 would turn into NaN under a power.
    return jnp.clip((image - low) / jnp.maximum(high - low, 1e-6), 0.0, 1.0)
