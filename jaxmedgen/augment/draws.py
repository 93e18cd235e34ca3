"""How transforms draw their parameters: a range, a probability, one row of numbers a transform.

All random numbers of a stage come from one table ``[sample, transform, column]``. A transform reads
its own row, so switching another one off or on leaves its draws alone.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Bool, Float, Key

Distribution = Literal["uniform", "log_uniform", "normal"]


@dataclasses.dataclass(frozen=True)
class Draw:
    """A range of values, drawn with a probability.

    Attributes:
        low: smallest value; of a normal distribution, one standard deviation below its mean.
        high: largest value; of a normal distribution, one standard deviation above its mean.
        p: probability that a sample is transformed at all.
        p_channel: probability that a channel of a transformed sample takes part.
        distribution: ``uniform``, ``log_uniform`` (``exp(U(log low, log high))``) or ``normal``.
    """

    low: float | int
    high: float | int
    p: float | int = 1.0
    p_channel: float | int = 1.0
    distribution: Distribution = "uniform"

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"range ({self.low}, {self.high}) is empty: give low <= high")
        if self.distribution == "log_uniform" and self.low <= 0:
            raise ValueError(f"low = {self.low} of a log_uniform range: give a positive number")
        for name in ("p", "p_channel"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} is no probability: use 0 to 1")

    def __call__(
        self,
        uniforms: Float[Array, " b columns"],
        size: int,
        *,
        neutral: float | int,
        balanced: bool = False,
    ) -> Float[Array, " b size"]:
        """Values of one transform, `neutral` where it is off.

        Args:
            uniforms: the transform's row, at least ``1 + 2 size`` columns.
            size: values a sample: one an axis or channel.
            neutral: the value that changes nothing.
            balanced: draw a uniform range below and above `neutral` equally often, whatever the
                lengths of the two parts (nnU-Net's habit for factors and exponents).
        """
        on = uniforms[:, :1] < self.p
        on &= uniforms[:, 1 + size : 1 + 2 * size] < self.p_channel
        u = uniforms[:, 1 : 1 + size]
        if self.distribution == "normal":
            # Within five standard deviations: 0 would be infinitely far out.
            normal = ndtri(jnp.clip(u, 3e-7, 1 - 3e-7))
            value = (self.low + self.high) / 2 + (self.high - self.low) / 2 * normal
        elif self.distribution == "log_uniform":
            value = self.low * jnp.exp(math.log(self.high / self.low) * u)
        elif balanced and self.low < neutral < self.high:
            below = self.low + (neutral - self.low) * 2 * u
            above = neutral + (self.high - neutral) * (2 * u - 1)
            value = jnp.where(u < 0.5, below, above)
        else:
            value = self.low + (self.high - self.low) * u
        return jnp.where(on, value, neutral)


def uniform_table(
    keys: Key[Array, " b"], rows: int, columns: int
) -> Float[Array, " b rows columns"]:
    """One row of uniform numbers in [0, 1) a transform, for every sample."""
    return jax.vmap(lambda key: jax.random.uniform(key, (rows, columns)))(keys)


def split_keys(keys: Key[Array, " b"], parts: int) -> list[Key[Array, " b"]]:
    """Independent keys for the parts of a transform, one a sample each."""
    split = jax.vmap(lambda key: jax.random.split(key, parts))(keys)
    return [split[:, i] for i in range(parts)]


def fold_keys(keys: Key[Array, " b"], number: int) -> Key[Array, " b"]:
    """Keys for one more part of a transform, which leaves the draws of the others as they are."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def choose(
    on: Bool[Array, " b"] | Bool[Array, " b c"],
    changed: Float[Array, " b *s c"],
    image: Float[Array, " b *s c"],
    mask: Bool[Array, " b *s"] | None = None,
) -> Float[Array, " b *s c"]:
    """`changed` where a sample (or channel) is transformed, else the image bit for bit.

    With a mask, voxels outside of it keep their values too.
    """
    axes = (1,) * (image.ndim - 2)
    on = on.reshape(on.shape[0], *axes, -1)
    if mask is not None:
        on = on & mask[..., None]
    return jnp.where(on, changed, image)
