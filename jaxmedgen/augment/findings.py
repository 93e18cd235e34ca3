"""Findings added to images by a learned translation, with their labels.

A random window without the finding gets the residual that a translation adds to it, so that the
rest of the window stays as it is, and the label that a segmenter gives the result. The residual
fades towards the window's border.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.augment.draws import split_keys
from jaxmedgen.augment.policy import Augmentation

AddResidual = Callable[[Key[Array, " b"], Float[Array, "b *w c"]], Float[Array, "b *w c"]]
Segment = Callable[[Float[Array, "b *w c"]], Float[Array, " b *w"]]

_TRIES = 8
"""Windows that are looked at; the first without a finding is taken."""
_FADE = 3  # voxels


@dataclasses.dataclass(frozen=True, eq=False)
class AddedFindings:
    """A random transform that adds a finding where there is none.

    Attributes:
        residual: what a translation to presence adds to windows, in units of `scale`.
        segment: probability of the finding in windows in those units.
        window: voxels an axis.
        finding: its class.
        scale: intensity that the translation knows as 1.
        least_deviation: standard deviation, in units of `scale`, that a window must have: air and
            the like is left alone.
        policy: what else happens to image and label.
        probability: chance that a sample gets a finding, if a window for it is found.
    """

    residual: AddResidual
    segment: Segment
    window: tuple[int, ...]
    finding: int
    scale: float | int
    least_deviation: float | int
    policy: Augmentation
    probability: float | int = 0.5

    def __call__(
        self, keys: Key[Array, " b"], image: Float[Array, "b *s c"], label: Int[Array, " b *s"]
    ) -> tuple[Float[Array, "b *s c"], Int[Array, " b *s"]]:
        """Image and label with findings added, then the policy's transforms.

        Raises:
            ValueError: images smaller than the window.
        """
        if any(n < w for n, w in zip(label.shape[1:], self.window, strict=True)):
            raise ValueError(f"images {label.shape[1:]} are smaller than the window {self.window}")
        place_keys, look_keys, policy_keys = split_keys(keys, 3)
        corner, chosen = jax.vmap(self._place)(place_keys, image, label)
        cut = jax.vmap(lambda x, start: _slice(x, start, self.window))
        window = cut(image, corner)
        added = self.residual(look_keys, window / self.scale)
        on = chosen.reshape(-1, *[1] * len(self.window))
        added = jnp.where(on[..., None], added * jnp.asarray(self._fade())[..., None], 0.0)
        mask = self.segment(window / self.scale + added) > 0.5
        pasted = window + self.scale * added
        classes = jnp.where(on & mask, self.finding, cut(label, corner))
        paste = jax.vmap(lambda x, part, start: jax.lax.dynamic_update_slice(
            x, part.astype(x.dtype), _indices(start, x.ndim)
        ))  # fmt: skip
        image, label = paste(image, pasted, corner), paste(label, classes, corner)
        return self.policy(policy_keys, image, label)

    def _place(self, key, image, label):
        """Where a sample's window begins, and whether it is to get a finding."""
        room = jnp.asarray([n - w + 1 for n, w in zip(label.shape, self.window)])
        where, whether = jax.random.split(key)
        corners = (jax.random.uniform(where, (_TRIES, len(self.window))) * room).astype(jnp.int32)

        def fits(corner):
            classes = _slice(label, corner, self.window)
            varied = (_slice(image, corner, self.window) / self.scale).std() > self.least_deviation
            return varied & ~jnp.any(classes == self.finding)

        good = jax.vmap(fits)(corners)
        wanted = jax.random.bernoulli(whether, self.probability)
        return corners[jnp.argmax(good)], wanted & jnp.any(good)

    def _fade(self) -> np.ndarray:
        weight = np.ones(self.window, np.float32)
        for axis, n in enumerate(self.window):
            distance = np.minimum(np.arange(n), np.arange(n)[::-1]) + 1
            shape = [1] * len(self.window)
            shape[axis] = n
            weight = weight * np.minimum(distance / (_FADE + 1), 1).reshape(shape)
        return weight.astype(np.float32)


def _indices(start, rank):
    return (*start, *[jnp.zeros((), jnp.int32)] * (rank - len(start)))


def _slice(x, start, window):
    return jax.lax.dynamic_slice(x, _indices(start, x.ndim), (*window, *x.shape[len(window) :]))
