"""How a trained system makes labelled images: by its abilities, each in one compiled function.

``render``: images of label maps (`CanSample`). ``move``: subjects with their labels (`CanDeform`).
``translate``: subjects with a finding added or exchanged, and the system's own segmentation of what
came out (`CanTranslate` and `CanPredict`). ``model``: draws of a model of images and label maps
together (`CanGenerate`), which looks at no subject.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxmedgen.experiments.shape_generation import level_noise
from jaxmedgen.systems.base import (
    CanDeform,
    CanPredict,
    CanSample,
    CanTranslate,
    PlayerVariables,
)
from jaxmedgen.systems.latent import CanGenerate

Kind = Literal["render", "move", "translate", "model"]

Draw = Callable[[Array, Array, Array], tuple[Array, Array]]
"""``(keys [b], image [b, *s, c], label [b, *s]) -> image, label``."""


@dataclasses.dataclass(frozen=True)
class Drawing:
    """What a system does, and the function that does it.

    Attributes:
        kind: see the module.
        draw: compiled.
    """

    kind: Kind
    draw: Draw


def drawing_of(system: Any, variables: PlayerVariables, name: str) -> Drawing | None:
    """The system's way to make labelled images; None without one.

    Raises:
        ValueError: a model of images or of label maps alone.
    """
    samples = isinstance(system, CanSample) and getattr(system, "makes_samples", True)
    if samples and not getattr(system, "needs_style", False):
        return Drawing(
            "render", jax.jit(lambda keys, _, label: system.sample(variables, keys, label))
        )
    if samples:
        return None
    if isinstance(system, CanDeform):
        return Drawing(
            "move", jax.jit(lambda keys, image, label: system.deform(variables, keys, image, label))
        )
    if isinstance(system, CanTranslate) and isinstance(system, CanPredict):
        return Drawing("translate", _translating(system, variables))
    if isinstance(system, CanGenerate):
        return Drawing("model", _modelling(system, variables, name))
    return None


def _translating(system: Any, variables: PlayerVariables) -> Draw:
    """Each image in one of the domains with a finding, drawn at random."""
    targets = system.domain_names[1:]

    @jax.jit
    def draw(keys, image, label):
        del label
        split = jax.vmap(jax.random.split)(keys)
        made = jnp.stack([system.translate(variables, split[:, 0], image, t) for t in targets])
        place = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(targets)))(split[:, 1])
        made = made[place, jnp.arange(len(image))]
        return made, jnp.argmax(system.predict(variables, made), -1).astype(jnp.int32)

    return draw


def _modelling(system: Any, variables: PlayerVariables, name: str) -> Draw:
    """Draws of the prior, image and label map; conditions are drawn evenly."""
    content = getattr(system, "content", None)
    if content is None or content.kind != "both":
        raise ValueError(
            f"{name} models images or label maps alone, which is no labelled image: train a model "
            "of both (configs/rhvae.py:cpu,arm=both)"
        )

    @jax.jit
    def draw(keys, image, label):
        batch: Mapping[str, Array] = {"image": image, "label": label}
        kinds = jax.vmap(
            lambda k: jax.random.randint(jax.random.fold_in(k, 1), (), 0, system.kinds)
        )
        batch = {**batch, **{key: kinds(keys) for key in system.condition_keys}}
        latents = system.prior_levels(variables, level_noise(system, keys), batch)
        image, label = content.split(system.decode_levels(variables, latents, batch))
        return image, label

    return draw
