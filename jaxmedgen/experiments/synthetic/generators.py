"""Anything that gives labelled images, as the evaluation of synthetic data sees it.

A `Generator` turns labelled subjects into synthetic labelled images. `SystemGenerator` makes
one of a trained system of the library; `generator_sources` gets or trains it, `known_generators`
has generators whose quality is known beforehand.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.experiments.synthetic.system_draws import drawing_of
from jaxmedgen.ops.percentiles import HIGH, LOW
from jaxmedgen.systems.base import (
    CanNameStyles,
    CanStylise,
    PlayerVariables,
)

RANDOM_STYLE = "random"
"""The style that a generator draws at will."""

OWN_STYLE = "own"
"""That of the subject's own image."""

_STYLES = 1_000_003
"""Folded into a call's key before it is split for the images.

Anatomies of the same seed split the key itself, and a latent vector would have the bits of their
first draw. More than any number of images: `jax.random.fold_in` with k is the k-th key of a split.
"""

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
            styles: wished style (vendor) of each image, `OWN_STYLE` or `RANDOM_STYLE`; generators
                without named styles do not look at them.
        """
        ...


StyleBank = Mapping[str, Float[np.ndarray, "n *s c"]]
"""Unlabelled images by the name of their style: what a few scans of a new vendor are."""


class SystemGenerator:
    """A trained system of the library that makes labelled images, see `system_draws`.

    A named style is the system's own, where it has that name, or taken from the bank, where that
    has it, or from the subject's own image. A system that draws no styles takes random ones from
    other subjects.

    Images of label maps and of models are brought to the window (1 to 99 %) of the subject's image,
    or of the image that gave the style: systems have scales of their own, say [-1, 1].
    """

    def __init__(
        self,
        system: object,
        variables: PlayerVariables,
        name: str,
        styles: StyleBank | None = None,
        *,
        slice_axis: int | None = None,
        warnings: Sequence[str] = (),
        seconds: float | None = None,
    ) -> None:
        """Compiles lazily.

        Args:
            system: trained.
            variables: of its players.
            name: for manifests.
            styles: images by the name of their style.
            slice_axis: across the slices of subjects, for a system of slices; None shows it whole
                subjects.
            warnings: what the system's training said.
            seconds: what its training cost, where that counts as the cost of an arm.

        Raises:
            ValueError: the system can do none of it, or not slice by slice.
        """
        self._name, self._bank, self._axis = name, dict(styles or {}), slice_axis
        self.warnings, self.seconds = tuple(warnings), seconds
        self._drawing, self._stylise = drawing_of(system, variables, name), None
        # Systems that read no style from images have the method too, and say so by raising.
        if isinstance(system, CanStylise) and _reads_styles(system):
            self._stylise = jax.jit(lambda label, style: system.stylise(variables, label, style))
        if self._drawing is None and self._stylise is None:
            raise ValueError(
                f"{name} neither samples nor deforms: it makes no labelled images; take a system "
                "that does, such as cardiac_synthesis:cpu"
            )
        if slice_axis is not None and not self.renders_labels:
            raise ValueError(
                f"{name} was trained on slices and makes no label maps into images: it cannot make "
                "volumes; give it 2D subjects"
            )
        self._names: Mapping[str, Callable] = {}
        if isinstance(system, CanNameStyles):
            self._names = {
                style: jax.jit(
                    lambda keys, label, s=style: system.sample_style(variables, keys, label, s)[0]
                )
                for style in system.style_names
            }

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    @property
    def renders_labels(self) -> bool:
        """Whether images are made of label maps."""
        return self._drawing is None or self._drawing.kind == "render"

    @property
    def keeps_classes(self) -> bool:
        """Whether labels are the subjects' own, moved, whatever their classes are."""
        return self._drawing is not None and self._drawing.kind == "move"

    def __call__(
        self,
        seed: int,
        image: Float[np.ndarray, "b *s c"],
        label: Int[np.ndarray, " b *s"],
        styles: Sequence[str],
    ) -> LabelledImages:
        """Draws one image a subject.

        Raises:
            ValueError: a style that a system with named styles does not know, nor the bank.
        """
        self._check(styles)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), _STYLES), len(label))
        cut = self._slices_first(label)
        named = {style: self._names[style](keys, cut) for style in {*styles} & {*self._names}}
        if named and set(styles) <= set(named):
            made = np.stack([np.asarray(named[s])[k] for k, s in enumerate(styles)])
            return in_window_of(self._back(made), image), label

        def with_named(made):
            return np.stack([np.asarray(named.get(s, made)[k]) for k, s in enumerate(styles)])

        free = all(style == RANDOM_STYLE for style in styles)
        if self._stylise is None or (free and self._drawing is not None):
            made, kept = map(np.asarray, self._drawing.draw(keys, jnp.asarray(image), cut))
            if self.renders_labels:
                made, kept = self._back(with_named(made)), self._back(kept)
            moved = self._drawing.kind in ("move", "translate")
            return made if moved else in_window_of(made, image), kept
        rng, shown = np.random.default_rng((seed, _STYLES)), image
        if self._axis is not None:  # systems read the middle slice, in its volume's scale
            shown = np.moveaxis(image, self._axis + 1, 1)
        own, shown = shown, shown.copy()
        for k, style in enumerate(styles):
            if style in self._bank and style not in named:
                shown[k] = self._of_bank(style, rng)
            elif style == RANDOM_STYLE:
                shown[k] = own[rng.integers(len(own))]
        made = self._back(with_named(np.asarray(self._stylise(cut, jnp.asarray(shown)))))
        return in_window_of(made, shown), label

    def _check(self, styles: Sequence[str]) -> None:
        """Of a system with named styles: an image in a style must not be one in another."""
        if not self._names:
            return
        # Images of the bank are of no use to a system that reads no styles from images.
        known = {*self._names, *(self._bank if self._stylise else ()), OWN_STYLE, RANDOM_STYLE}
        unknown = sorted({*styles} - known)
        if unknown:
            raise ValueError(
                f"{self._name} has no style '{unknown[0]}', its styles are "
                f"{', '.join(self._names)}: train it on images of that style too, or choose one"
            )

    def _of_bank(self, style, rng):
        """One of the style's images; a volume with its slices first for a system of slices."""
        chosen = self._bank[style][rng.integers(len(self._bank[style]))]
        if self._axis is None or chosen.ndim < 4:
            return chosen
        return np.moveaxis(chosen, self._axis, 0)

    def _slices_first(self, label):
        label = jnp.asarray(label)
        return label if self._axis is None else jnp.moveaxis(label, self._axis + 1, 1)

    def _back(self, array):
        return array if self._axis is None else np.moveaxis(array, 1, self._axis + 1)


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
