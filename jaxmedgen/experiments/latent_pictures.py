"""What a transformational autoencoder has learned, as pictures: RGB or grey arrays, 2D images."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxmedgen.report.pictures import montage, three_planes
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.deformation.it_vae import PLAYER, ItVae
from jaxmedgen.types import Augment

Picture = UInt8[np.ndarray, " rows columns 3"]

_STEPS = np.linspace(-2, 2, 7)
"""Standard deviations of the prior that a traversal goes through."""


def reconstructions(
    system: ItVae, variables: PlayerVariables, image: Float[Array, " b h w c"], scale: int = 3
) -> Picture:
    """Rows: the images, what the model keeps of them, and the images with their map undone."""
    noise = jnp.zeros((image.shape[0], system.latents))
    found = jax.jit(lambda v, x, z: system.net.apply(v[PLAYER], x, z))(variables, image, noise)
    rows = [image, found.mean]
    if system.net.transformer is not None:
        rows.append(found.canonical)
    return _grid(rows, scale)


def traversals(
    system: ItVae,
    variables: PlayerVariables,
    image: Float[Array, " 1 h w c"],
    dimensions: int = 4,
    scale: int = 3,
) -> Picture:
    """A row a latent dimension, moved from -2 to 2 with the others as `image` has them.

    The first rows are perspective, the last ones appearance, up to `dimensions` of each.
    """
    perspective, appearance = jax.jit(system.encode)(variables, image)
    rows = []
    for part in (perspective, appearance):
        for k in range(min(dimensions, 0 if part is None else part.mean.shape[1])):
            moved = np.repeat(np.asarray(part.mean), len(_STEPS), 0)
            moved[:, k] = _STEPS
            given = [
                None if p is None else jnp.repeat(p.mean, len(_STEPS), 0)
                for p in (perspective, appearance)
            ]
            given[0 if part is perspective else 1] = jnp.asarray(moved)
            rows.append(_generate(system)(variables, *given))
    return _grid(rows, scale)


def conditional_draws(
    system: ItVae,
    variables: PlayerVariables,
    image: Float[Array, " b h w c"],
    count: int = 8,
    scale: int = 3,
) -> Picture:
    """Decoded samples from conditional latent distributions, two rows an image.

    First the image. Above it keeps its appearance, ``z_A ~ q(z_A|x)``, in perspectives of the
    prior; below its perspective, ``z_P ~ q(z_P|x)``, with appearances of the prior.

    Raises:
        ValueError: the model has one latent vector only.
    """
    posteriors = jax.jit(system.encode)(variables, image)
    if None in posteriors:
        raise ValueError("conditional draws need a perspective and an appearance: choose c-vitae")
    generate, rows = _generate(system), []
    for number in range(image.shape[0]):
        for own in (1, 0):  # whose posterior is drawn from
            z = []
            for part, posterior in enumerate(posteriors):
                key = jax.random.fold_in(jax.random.key(number), part)
                noise = jax.random.normal(key, (count, posterior.mean.shape[1]))
                if part == own:
                    spread = jnp.exp(0.5 * posterior.log_variance[number])
                    noise = posterior.mean[number] + spread * noise
                z.append(noise)
            rows.append(jnp.concatenate([image[number : number + 1], generate(variables, *z)]))
    return _grid(rows, scale)


def prior_samples(
    system: ItVae, variables: PlayerVariables, count: int = 32, columns: int = 8, scale: int = 3
) -> Picture:
    """Images of latent vectors drawn from the prior."""
    sizes = (system.net.perspective, system.net.appearance)
    keys = jax.random.split(jax.random.key(0))
    z = [jax.random.normal(key, (count, size)) if size else None for key, size in zip(keys, sizes)]
    made = _generate(system)(variables, *z)
    return _grid([made[i : i + columns] for i in range(0, count, columns)], scale)


def template(
    system: ItVae,
    variables: PlayerVariables,
    image: Float[Array, " n h w c"],
    aligned: Float[np.ndarray, "n h w c"],
    scale: int = 3,
) -> Picture:
    """The learned template, the mean image before and after registration, both deviations."""
    shown, _ = jax.jit(lambda v: system.net.apply(v[PLAYER], None, 1, method="decode_appearance"))(
        variables
    )
    before = np.asarray(image)
    means = [np.asarray(shown)[0], before.mean(0), aligned.mean(0)]
    spreads = [before.std(0), aligned.std(0)]
    pictures = [
        *(_grey(x, means, scale) for x in means),
        *(_grey(x, spreads, scale) for x in spreads),
    ]
    return montage(pictures, columns=len(pictures))


def deformed(
    augmentations: Mapping[str, Augment],
    image: Float[Array, " b h w c"],
    label: Int[Array, " b h w"],
    *,
    spacing: Sequence[float | int],
    height: int = 150,
) -> Picture:
    """Columns: subjects; rows: as they are, then deformed with their labels in each mode."""
    keys = jax.random.split(jax.random.key(0), image.shape[0])
    rows: list[tuple[Any, Any]] = [(image, label)]
    rows += [jax.jit(transform)(keys, image, label) for transform in augmentations.values()]
    pictures = [
        _labelled(np.asarray(x), np.asarray(y), spacing, height)
        for images, labels in rows
        for x, y in zip(images, labels)
    ]
    return montage(pictures, columns=image.shape[0])


def _labelled(image, label, spacing, height) -> Picture:
    return three_planes(image, label, spacing=spacing, height=height)


def _generate(system: ItVae):
    apply = functools.partial(system.net.apply, method="generate")
    return jax.jit(lambda variables, p, a: apply(variables[PLAYER], p, a))


def _grid(rows: Sequence[Float[Array, " b h w c"]], scale: int) -> Picture:
    images = [[np.asarray(x) for x in row] for row in rows]
    everything = [x for row in images for x in row]
    return montage(
        [_grey(x, everything, scale) for x in everything], columns=len(images[0]), gap=scale
    )


def _grey(image: np.ndarray, alike: Sequence[np.ndarray], scale: int) -> np.ndarray:
    """One grey window for pictures that are compared."""
    low = min(float(x.min()) for x in alike)
    high = max(float(x.max()) for x in alike)
    grey = np.round((image[..., 0] - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return np.repeat(np.repeat(grey, scale, 0), scale, 1)
