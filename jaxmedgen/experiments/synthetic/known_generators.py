"""Generators whose quality is known beforehand: oracles, oracles with a fault, warps.

The phantoms' own renderer is the oracle: its images follow the real distribution exactly.
`Degraded` generators have a known fault, to see whether the metrics notice it. `WarpGenerator` is a
control: it has as many images as others and nothing new to show.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from jaxtyping import Float, Int

from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.spatial import Spatial, apply_spatial, sample_spatial
from jaxmedgen.data.phantoms import late_enhancement, vendors
from jaxmedgen.experiments.synthetic.generators import (
    OWN_STYLE,
    RANDOM_STYLE,
    Generator,
    LabelledImages,
)

_WARP = 14.0
"""mm, displacement of the warped copies' control points."""

Renderer = Callable[[np.random.Generator, Int[np.ndarray, "h w"], str], Float[np.ndarray, "h w"]]
"""``(random generator, tissue map, style) -> slice``."""


def render_cine(
    rng: np.random.Generator, tissues: Int[np.ndarray, "h w"], style: str
) -> Float[np.ndarray, "h w"]:
    """A cine slice of a tissue map of 8 values in a vendor's contrast, or in a random style.

    Without a vendor a subject's own style is not known here, and is a random one.

    A random style has tissue signals of its own, none of a vendor's, so that vendors that are kept
    for testing stay unseen: blood is brighter than muscle, as in every cine image, and the organs
    around have any brightness.
    """
    if style not in (RANDOM_STYLE, OWN_STYLE):
        return vendors.render(rng, tissues, style)
    vendor = vendors.VENDORS[int(rng.integers(2))]
    return vendors.render(rng, tissues, vendor, _random_means(rng))


def render_late_enhancement(
    rng: np.random.Generator, tissues: Int[np.ndarray, "h w"], style: str
) -> Float[np.ndarray, "h w"]:
    """A late-enhancement slice of a tissue map of 10 values; there is one style."""
    del style
    return late_enhancement.render(rng, tissues)


@dataclasses.dataclass(frozen=True)
class OracleGenerator:
    """The phantoms' own renderer.

    Attributes:
        render: makes a slice of a tissue map.
        name: for reports.
    """

    render: Renderer = render_cine
    name: str = "oracle"

    def __call__(
        self,
        seed: int,
        image: Float[np.ndarray, "b *s c"],
        label: Int[np.ndarray, " b *s"],
        styles: Sequence[str],
    ) -> LabelledImages:
        """Renders the tissue maps; the images are not looked at."""
        made = [
            self.render(np.random.default_rng((seed, number)), tissues, style)
            for number, (tissues, style) in enumerate(zip(label, styles))
        ]
        return np.stack(made)[..., None], label


def _random_means(rng: np.random.Generator) -> Float[np.ndarray, "8"]:
    """Signals of the tissues in a style that no vendor has."""
    means = rng.uniform(0.05, 0.9, 8)
    means[0] = 0.02
    means[1] = rng.uniform(0.55, 0.95)
    means[2] = means[1] * rng.uniform(0.25, 0.75)
    means[3] = means[1] * rng.uniform(0.9, 1.0)
    return means.astype(np.float32)


_STEP, _JITTER = 0.5, 0.01
"""Voxels, and part of the range of intensities, by which images of a collapsed generator differ."""

_NOISE = 2
"""Third number of the seeds of faults: images have two, anatomies another one."""

Fault = Literal["blurred", "noisy", "permuted", "collapsed", "copied"]


@dataclasses.dataclass(frozen=True)
class Degraded:
    """Another generator with a known fault.

    ``blurred``: smoothed by sigma 1.5 pixels. ``noisy``: with noise of 0.15 of the images' range.
    ``permuted``: images and labels of different subjects (realistic, wrong annotations).
    ``collapsed``: every image of a style is the first one that was asked for in it, in later calls
    as well, moved by up to half a voxel and with noise of 0.01 of its range (as sharp as others and
    as easily told apart by style, hardly any variety); the label stays.
    ``copied``: the real images and labels.
    """

    generator: Generator
    fault: Fault
    # Sets are made in several calls: a collapsed generator has the same images in all of them.
    _first: dict[str, LabelledImages] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def name(self) -> str:
        """The generator's with its fault."""
        return f"{self.generator.name}, {self.fault}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """The generator's, of its training."""
        return tuple(getattr(self.generator, "warnings", ()))

    @property
    def seconds(self) -> float | None:
        """The generator's, of its training; None of one that was not trained."""
        return getattr(self.generator, "seconds", None)

    def __call__(
        self,
        seed: int,
        image: Float[np.ndarray, "b *s c"],
        label: Int[np.ndarray, " b *s"],
        styles: Sequence[str],
    ) -> LabelledImages:
        """As the generator, with the fault."""
        if self.fault == "copied":
            return image, label
        if self.fault == "collapsed":
            return self._collapsed(seed, image, label, styles)
        made, kept = self.generator(seed, image, label, styles)
        if self.fault == "permuted":
            return made, np.roll(kept, 1, axis=0)
        if self.fault == "blurred":
            widths = (0, *(1.5,) * (made.ndim - 2), 0)
            return scipy.ndimage.gaussian_filter(made, widths, mode="nearest"), kept
        low, high = float(made.min()), float(made.max())
        noise = np.random.default_rng((seed, 0, _NOISE)).normal(0, 0.15 * (high - low), made.shape)
        return np.clip(made + noise, low, high).astype(np.float32), kept

    def _collapsed(self, seed, image, label, styles) -> LabelledImages:
        """The one image of each style again and again, hardly changed."""
        rng, images, labels = np.random.default_rng((seed, 0, _NOISE)), [], []
        for k, style in enumerate(styles):
            if style not in self._first:
                own = slice(k, k + 1)
                self._first[style] = self.generator(seed, image[own], label[own], styles[own])
            (one,), (kept,) = self._first[style]
            # By less than half a voxel: the label map, sampled at the nearest voxel, is the same.
            step = (*rng.uniform(-_STEP, _STEP, kept.ndim), 0)
            moved = scipy.ndimage.shift(one, step, order=3, mode="nearest")
            low, high = float(one.min()), float(one.max())
            noise = rng.normal(0, _JITTER * (high - low), one.shape)
            images.append(np.clip(moved + noise, low, high).astype(np.float32))
            labels.append(kept)
        return np.stack(images), np.stack(labels)


class WarpGenerator:
    """Elastic warps of the real images with their labels: no new appearance, hardly new shapes."""

    def __init__(self, spacing: tuple[float, ...]) -> None:
        """Compiles lazily, for voxels of `spacing` mm."""
        settings = Spatial(spacing=spacing, elastic=Draw(_WARP, _WARP), border="reflect")
        self._warp = jax.jit(
            lambda keys, image, label: apply_spatial(
                settings, sample_spatial(settings, keys), image, label
            )
        )

    @property
    def name(self) -> str:
        """For manifests."""
        return "elastic warps of real images"

    def __call__(
        self,
        seed: int,
        image: Float[np.ndarray, "b *s c"],
        label: Int[np.ndarray, " b *s"],
        styles: Sequence[str],
    ) -> LabelledImages:
        """Image and label moved by the same map."""
        keys = jax.random.split(jax.random.key(seed), len(label))
        moved = self._warp(keys, jnp.asarray(image), jnp.asarray(label, jnp.int32))
        return tuple(np.asarray(array) for array in moved)
