"""Anything that gives labelled images, as the evaluation of synthetic data sees it.

A `Generator` turns labelled subjects into synthetic labelled images. Adapters make one of every
system of the library that can sample or deform; `known_generators` has those whose quality is known
beforehand.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import Sources
from jaxmedgen.data.sources import Source, subset
from jaxmedgen.experiments.runs import open_run
from jaxmedgen.experiments.training import train
from jaxmedgen.ops.percentiles import HIGH, LOW
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


StyleBank = Mapping[str, Float[np.ndarray, "n *s c"]]
"""Unlabelled images by the name of their style: what a few scans of a new vendor are."""


class SystemGenerator:
    """A trained system of the library that samples from labels, stylises or deforms images.

    A system that can stylise takes a named style from the bank, where it has that name, or from
    the subject's own image; it draws random styles if it can, and takes them from other subjects
    if it cannot.

    Sampled and stylised images are brought to the window (1 to 99 %) of the subject's image, or of
    the image that gave the style: systems have scales of their own, say [-1, 1].
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
        self._deforms = False
        if isinstance(system, CanSample) and not getattr(system, "needs_style", False):
            self._draw = jax.jit(lambda keys, _, label: system.sample(variables, keys, label))
        elif isinstance(system, CanDeform):
            self._deforms = True
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

    @property
    def renders_labels(self) -> bool:
        """Whether images are made of label maps; else given images are moved with their labels."""
        return not self._deforms

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
            made, kept = self._draw(keys, jnp.asarray(image), jnp.asarray(label))
            made = np.asarray(made)
            return made if self._deforms else in_window_of(made, image), np.asarray(kept)
        rng, shown = np.random.default_rng(seed), image.copy()
        for k, style in enumerate(styles):
            if style in self._bank:
                shown[k] = self._bank[style][rng.integers(len(self._bank[style]))]
            elif style == RANDOM_STYLE:
                shown[k] = image[rng.integers(len(image))]
        made = np.asarray(self._stylise(jnp.asarray(label), jnp.asarray(shown)))
        return in_window_of(made, shown), label


def in_window_of(
    image: Float[np.ndarray, "b *s c"], like: Float[np.ndarray, "b *r c"]
) -> Float[np.ndarray, "b *s c"]:
    """Images whose percentiles (1 and 99 %) are those of others, channel by channel."""
    windows = []
    for array in (image, like):
        flat = array.reshape(len(array), -1, array.shape[-1])
        low, high = np.percentile(flat, (LOW, HIGH), axis=1)
        axes = tuple(range(1, image.ndim - 1))
        windows.append((np.expand_dims(low, axes), np.expand_dims(high - low, axes)))
    (low, width), (low_like, width_like) = windows
    scaled = (image - low) / np.maximum(width, 1e-6)
    return (low_like + scaled * width_like).astype(np.float32)


def _reads_styles(system: CanStylise) -> bool:
    net = getattr(system, "net", None)
    return getattr(net, "style", True) is not None


GeneratorFor = Callable[[Source, pathlib.Path, int], Generator]
"""``(labelled subjects, folder, seed) -> generator``: trained on them, or there already."""


def ready(generator: Generator) -> GeneratorFor:
    """A generator that exists already and looks at no subjects."""
    return lambda labelled, folder, seed: generator


class Merged:
    """A generator of fewer classes than the subjects have: it is shown theirs merged into its own.

    The images keep the subjects' labels.
    """

    def __init__(self, generator: Generator, target_of: Sequence[int]) -> None:
        """Label value v of the subjects is class ``target_of[v]`` of the generator."""
        self._generator, self._table = generator, np.asarray(target_of, np.int32)

    @property
    def name(self) -> str:
        """The generator's."""
        return self._generator.name

    def __call__(
        self,
        seed: int,
        image: Float[np.ndarray, "b *s c"],
        label: Int[np.ndarray, " b *s"],
        styles: Sequence[str],
    ) -> LabelledImages:
        """As the generator."""
        return self._generator(seed, image, self._table[label], styles)[0], label


def trained_run(
    workdir: pathlib.Path,
    styles: StyleBank | None = None,
    target_of: Sequence[int] = (),
    target_names: Sequence[str] = (),
) -> GeneratorFor:
    """The generator of a run of ``bin/train``, for subjects of its own classes.

    Args:
        workdir: of the run.
        styles: images by the name of their style.
        target_of: class of each label value of the subjects, where some are merged for prediction.
        target_names: of these classes: a generator of them is shown merged label maps.

    Raises:
        ConfigError: the folder holds no run.
        ValueError: its system makes no labelled images.
    """
    run = open_run(workdir)
    name = f"{run.config.system}, {workdir.name}"
    generator = SystemGenerator(run.system, run.variables()[0], name, styles)
    classes = run.info.class_names

    def check(labelled: Source, folder: pathlib.Path, seed: int) -> Generator:
        del folder, seed
        if labelled.info.class_names == classes or not generator.renders_labels:
            return generator
        if tuple(target_names) == classes:
            return Merged(generator, target_of)
        raise ValueError(
            f"{workdir} was trained on the classes {', '.join(classes)}, these subjects have "
            f"{', '.join(labelled.info.class_names)}: train a generator of their classes"
        )

    return check


def trained_on(
    config_name: str, styles: StyleBank | None = None, *, steps: int | None = None
) -> GeneratorFor:
    """Trains a configuration's system on the labelled subjects that it is given.

    The data group of the configuration is not used; its image size becomes the subjects'.

    Args:
        config_name: the configuration.
        styles: images by the name of their style.
        steps: after which training stops, for generators that are not ready; with a constant
            learning rate these are the checkpoints of one training.
    """

    def make(labelled: Source, folder: pathlib.Path, seed: int) -> Generator:
        config = load_config(config_name)
        with config.unlocked():
            config.seed = seed
            if steps is not None:
                config.steps = config.checkpoint_every = steps
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
