"""Anything that gives labelled images, as the evaluation of synthetic data sees it.

A `Generator` turns labelled subjects into synthetic labelled images. Adapters make one of every
system of the library that can sample or deform; the phantoms' renderer is the oracle, a generator
whose images follow the real distribution exactly. `Degraded` generators have a known fault, to see
whether the metrics notice it.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from jaxtyping import Float, Int

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import Sources
from jaxmedgen.data.phantoms import late_enhancement, vendors
from jaxmedgen.data.sources import Source, subset
from jaxmedgen.experiments.runs import open_run
from jaxmedgen.experiments.training import train
from jaxmedgen.systems.base import (
    CanDeform,
    CanSample,
    CanStylise,
    PlayerVariables,
    build_system,
    evaluation_variables,
)

RANDOM_STYLE = "random"
"""The style that a generator draws at will."""

LabelledImages = tuple[Float[np.ndarray, "b *s c"], Int[np.ndarray, " b *s"]]


@runtime_checkable
class Generator(Protocol):
    """Makes labelled images."""

    @property
    def name(self) -> str:
        """What made the images, for manifests and reports."""
        ...

    def __call__(
        self,
        seed: int,
        image: Float[np.ndarray, "b *s c"],
        label: Int[np.ndarray, " b *s"],
        styles: Sequence[str],
    ) -> LabelledImages:
        """Synthetic images and their labels, one for each given subject.

        Args:
            seed: of this call.
            image: the subjects' real images; generators from labels do not look at them.
            label: label maps to render, which may be deformed ones.
            styles: wished style (vendor) of each image, or `RANDOM_STYLE`; generators without
                named styles do not look at them.
        """
        ...


@dataclasses.dataclass(frozen=True)
class OracleGenerator:
    """The cine phantoms' own renderer: tissue maps of 8 values in a vendor's contrast.

    A random style has tissue signals of its own, none of a vendor's, so that vendors that are kept
    for testing stay unseen: blood is brighter than muscle, as in every cine image, and the organs
    around have any brightness.

    Attributes:
        name: for reports.
    """

    name: str = "oracle"

    def __call__(
        self,
        seed: int,
        image: Float[np.ndarray, "b *s c"],
        label: Int[np.ndarray, " b *s"],
        styles: Sequence[str],
    ) -> LabelledImages:
        """Renders the tissue maps; the images are not looked at."""
        made = []
        for number, (tissues, style) in enumerate(zip(label, styles)):
            rng = np.random.default_rng((seed, number))
            means = None
            if style == RANDOM_STYLE:
                style, means = vendors.VENDORS[int(rng.integers(2))], _random_means(rng)
            made.append(vendors.render(rng, tissues, style, means))
        return np.stack(made)[..., None], label


def _random_means(rng: np.random.Generator) -> Float[np.ndarray, "8"]:
    """Signals of the tissues in a style that no vendor has."""
    means = rng.uniform(0.05, 0.9, 8)
    means[0] = 0.02
    means[1] = rng.uniform(0.55, 0.95)
    means[2] = means[1] * rng.uniform(0.25, 0.75)
    means[3] = means[1] * rng.uniform(0.9, 1.0)
    return means.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class LateEnhancementOracle:
    """The late-enhancement phantoms' renderer; it has one style."""

    name: str = "late-enhancement oracle"

    def __call__(
        self,
        seed: int,
        image: Float[np.ndarray, "b *s c"],
        label: Int[np.ndarray, " b *s"],
        styles: Sequence[str],
    ) -> LabelledImages:
        """Renders the tissue maps; images and styles are not looked at."""
        made = [
            late_enhancement.render(np.random.default_rng((seed, number)), tissues)
            for number, tissues in enumerate(label)
        ]
        return np.stack(made)[..., None], label


StyleBank = Mapping[str, Float[np.ndarray, "n *s c"]]
"""Unlabelled images by the name of their style: what a few scans of a new vendor are."""


class SystemGenerator:
    """A trained system of the library that samples from labels, stylises or deforms images.

    A system that can stylise takes a named style from the bank, where it has that name, or from
    the subject's own image; it draws random styles if it can, and takes them from other subjects
    if it cannot.
    """

    def __init__(
        self,
        system: object,
        variables: PlayerVariables,
        name: str,
        styles: StyleBank | None = None,
    ) -> None:
        """Compiles lazily.

        Raises:
            ValueError: the system can do none of it.
        """
        self._name, self._bank = name, dict(styles or {})
        self._draw = self._stylise = None
        if isinstance(system, CanSample) and not getattr(system, "needs_style", False):
            self._draw = jax.jit(lambda keys, _, label: system.sample(variables, keys, label))
        elif isinstance(system, CanDeform):
            self._draw = jax.jit(
                lambda keys, image, label: system.deform(variables, keys, image, label)
            )
        # Systems that read no style from images have the method too, and say so by raising.
        if isinstance(system, CanStylise) and _reads_styles(system):
            self._stylise = jax.jit(lambda label, style: system.stylise(variables, label, style))
        if self._draw is None and self._stylise is None:
            raise ValueError(f"{name} neither samples nor deforms: it makes no labelled images")

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    def __call__(
        self,
        seed: int,
        image: Float[np.ndarray, "b *s c"],
        label: Int[np.ndarray, " b *s"],
        styles: Sequence[str],
    ) -> LabelledImages:
        """Draws one image a subject."""
        free = all(style == RANDOM_STYLE for style in styles)
        if self._stylise is None or (free and self._draw is not None):
            keys = jax.random.split(jax.random.key(seed), len(label))
            made = self._draw(keys, jnp.asarray(image), jnp.asarray(label))
            return tuple(np.asarray(array) for array in made)
        rng, shown = np.random.default_rng(seed), image.copy()
        for k, style in enumerate(styles):
            if style in self._bank:
                shown[k] = self._bank[style][rng.integers(len(self._bank[style]))]
            elif style == RANDOM_STYLE:
                shown[k] = image[rng.integers(len(image))]
        return np.asarray(self._stylise(jnp.asarray(label), jnp.asarray(shown))), label


def _reads_styles(system: CanStylise) -> bool:
    net = getattr(system, "net", None)
    return getattr(net, "style", True) is not None


Fault = Literal["blurred", "noisy", "permuted", "collapsed", "copied"]


@dataclasses.dataclass(frozen=True)
class Degraded:
    """Another generator with a known fault.

    ``blurred``: smoothed by sigma 1.5 pixels. ``noisy``: with noise of 0.15. ``permuted``: images
    and labels of different subjects (realistic, wrong annotations). ``collapsed``: every image is
    the first one of its call (sharp, no variety). ``copied``: the real images and labels.
    """

    generator: Generator
    fault: Fault

    @property
    def name(self) -> str:
        """The generator's with its fault."""
        return f"{self.generator.name}, {self.fault}"

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
            made, kept = self.generator(seed, image[:1], label[:1], styles[:1])
            return np.repeat(made, len(label), 0), np.repeat(kept, len(label), 0)
        made, kept = self.generator(seed, image, label, styles)
        if self.fault == "permuted":
            return made, np.roll(kept, 1, axis=0)
        if self.fault == "blurred":
            widths = (0, *(1.5,) * (made.ndim - 2), 0)
            return scipy.ndimage.gaussian_filter(made, widths, mode="nearest"), kept
        noise = np.random.default_rng(seed).normal(0, 0.15, made.shape)
        return np.clip(made + noise, 0, 1).astype(np.float32), kept


GeneratorFor = Callable[[Source, pathlib.Path, int], Generator]
"""``(labelled subjects, folder, seed) -> generator``: trained on them, or there already."""


def ready(generator: Generator) -> GeneratorFor:
    """A generator that exists already and looks at no subjects."""
    return lambda labelled, folder, seed: generator


def trained_run(workdir: pathlib.Path, styles: StyleBank | None = None) -> Generator:
    """The generator of a run of ``bin/train``.

    Raises:
        ConfigError: the folder holds no run.
        ValueError: its system makes no labelled images.
    """
    run = open_run(workdir)
    name = f"{run.config.system}, {workdir.name}"
    return SystemGenerator(run.system, run.variables()[0], name, styles)


def trained_on(config_name: str, styles: StyleBank | None = None) -> GeneratorFor:
    """Trains a configuration's system on the labelled subjects that it is given.

    The data group of the configuration is not used; its image size becomes the subjects'.
    """

    def make(labelled: Source, folder: pathlib.Path, seed: int) -> Generator:
        config = load_config(config_name)
        with config.unlocked():
            config.seed = seed
            config.data.shape = tuple(labelled[0]["image"].shape[:-1])
            config.data.target_of, config.data.target_names = (), ()
        system = build_system(config, labelled.info)
        nobody = subset(labelled, ())
        sources = Sources(labelled, nobody, nobody, labelled.info)
        cache = jax.config.jax_compilation_cache_dir
        cache = pathlib.Path(cache) if cache else None
        result = train(config, sources, system, folder, cache=cache)
        return SystemGenerator(system, evaluation_variables(result.state), config_name, styles)

    return make
