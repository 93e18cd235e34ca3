"""Layers whose weights are divided by their largest singular value.

Source: Miyato et al., ICLR 2018, algorithm 1. The vectors of the power iteration are in the
collection ``spectral`` and change only in calls with ``update=True``: make one such call of a
network a step, however often the step evaluates it.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, Dtype, he_normal
from jaxmedgen.ops.conv import Padding

COLLECTION = "spectral"


class SpectralConv(nn.Module):
    """`layers.Conv` of spectral norm one (of the kernel as a matrix ``[taps * ci, co]``).

    Attributes:
        features: output channels.
        kernel_size: taps, one number or one an axis.
        stride: step, likewise.
        padding: as `layers.Conv`.
        use_bias: whether a bias is added.
        dtype: precision of the arithmetic; the norm is in float32.
        kernel_init: initialiser of the kernel.
        normalise: False makes it a plain convolution.
    """

    features: int
    kernel_size: int | Sequence[int] = 3
    stride: int | Sequence[int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    dtype: Dtype = None
    kernel_init: Any = he_normal
    normalise: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"], update: bool = False) -> Float[Array, "b *s2 k"]:
        """Images in, images out; `update` moves the power iteration on by one step."""
        layer = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            padding=self.padding,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )
        return _normalised(layer, x, update) if self.normalise else layer(x)


class SpectralDense(nn.Module):
    """A linear layer of spectral norm one.

    Attributes:
        features: outputs.
        use_bias: whether a bias is added.
        dtype: precision of the arithmetic; the norm is in float32.
        normalise: False makes it a plain linear layer.
    """

    features: int
    use_bias: bool = True
    dtype: Dtype = None
    normalise: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"], update: bool = False) -> Float[Array, "*b k"]:
        """Vectors in, vectors out; `update` moves the power iteration on by one step."""
        layer = nn.Dense(self.features, use_bias=self.use_bias, dtype=self.dtype, name="dense")
        return _normalised(layer, x, update) if self.normalise else layer(x)


class SpectralNorm(nn.Module):
    """Runs a layer with its kernels divided by their largest singular value.

    One power iteration a call, from the vector u of the last update: ``v ~ u W^T``, ``u' ~ v W``,
    ``sigma = v W u'^T`` with u' and v constant for the gradient. `flax.linen.SpectralNorm` is the
    same with more operations, which every layer of a training step has to be compiled for.

    Attributes:
        layer: whose parameters of two axes or more are normalised, leading axes merged.
        epsilon: added to squared lengths.
    """

    layer: nn.Module
    epsilon: float = 1e-12

    @nn.compact
    def __call__(self, x: Float[Array, "..."], update: bool = False) -> Float[Array, "..."]:
        """The layer's output; `update` keeps u' and sigma."""

        def change(variables):
            return jax.tree_util.tree_map_with_path(
                lambda path, leaf: self._divided(path, leaf, update), variables
            )

        run = nn.map_variables(
            lambda layer: layer(x), trans_in_fn=change, init=self.is_initializing(), mutable=True
        )
        return run(self.layer)

    def _divided(self, path, weight, update):
        if weight.ndim < 2:
            return weight
        matrix = weight.reshape(-1, weight.shape[-1])
        name = "/".join((self.layer.name, *(key.key for key in path[1:])))
        known = self.has_variable(COLLECTION, f"{name}/u")
        key = None if known else self.make_rng("params")
        shape = (1, matrix.shape[-1])
        vector = self.variable(COLLECTION, f"{name}/u", jax.random.normal, key, shape, jnp.float32)
        norm = self.variable(COLLECTION, f"{name}/sigma", jnp.ones, (), jnp.float32)
        v = jax.lax.stop_gradient(self._unit(vector.value @ matrix.T))
        product = v @ matrix
        u = jax.lax.stop_gradient(self._unit(product))
        sigma = (product * u).sum()
        if update:
            vector.value, norm.value = u, jax.lax.stop_gradient(sigma)
        return weight * (1 / jnp.where(sigma != 0, sigma, 1.0))

    def _unit(self, x):
        return x * jax.lax.rsqrt(jnp.square(x).sum() + self.epsilon)


def _normalised(layer, x, update):
    return SpectralNorm(layer, name="norm")(x, update)
