"""What a convolutional network holds and computes: weights, expanded weights, operations.

A group network's capacity has three readings: the scalars that are trained, the scalars of the
kernels that they are expanded to, and the multiplications and additions of a pass. Comparing at
one of them changes the others (see `matched_filters`).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxmedgen.nets.group_layers import GroupConv3D, GroupConvTranspose3D
from jaxmedgen.nets.layers import Conv, ConvTranspose
from jaxmedgen.ops.groups import Group

Matched = Literal["features", "parameters", "filters"]


@dataclasses.dataclass(frozen=True)
class NetworkCost:
    """Sizes of a network.

    Attributes:
        trainable: trained scalars, those of norms and biases included.
        kernels: trained scalars of the convolutions' kernels.
        expanded: scalars of the kernels that are convolved with.
        flops: floating-point operations of the convolutions of one image's forward pass; a
            multiplication and an addition are two.
    """

    trainable: int
    kernels: int
    expanded: int
    flops: int

    def __str__(self) -> str:
        text = f"{self.trainable:,} parameters"
        if self.expanded != self.kernels:
            text += f", {self.expanded:,} weights in expanded kernels"
        return f"{text}, {self.flops / 1e9:.3g} GFLOP for a forward pass of one image"


def network_cost(net: nn.Module, shape: Sequence[int]) -> NetworkCost:
    """Counts without computing anything.

    Args:
        net: a network of the convolutions of `layers.py` and `group_layers.py`; other layers count
            as trained scalars only.
        shape: of one image, ``[*s, c]``.
    """
    kernels, expanded, operations = [], [], []

    def count(call, args, kwargs, context):
        y, layer = call(*args, **kwargs), context.module
        known = isinstance(layer, Conv | ConvTranspose | GroupConv3D | GroupConvTranspose3D)
        if not known or context.method_name != "__call__":
            return y
        grouped = isinstance(layer, GroupConv3D | GroupConvTranspose3D)
        group = layer.output_group if isinstance(layer, GroupConv3D) else None
        group = layer.group if isinstance(layer, GroupConvTranspose3D) else group
        copies = group.order if grouped else 1
        size = layer.variables["params"]["kernel"].size
        kernels.append(size)
        expanded.append(copies * size)
        # Every weight is used once an output voxel, of a transposed convolution once an input one.
        turned = isinstance(layer, ConvTranspose | GroupConvTranspose3D)
        seen = args[0] if turned else y
        field = copies > 1
        operations.append(2 * copies * size * math.prod(seen.shape[1 : -1 - field]))
        return y

    def initialise(x):
        with nn.intercept_methods(count):
            return net.init(jax.random.key(0), x)

    variables = jax.eval_shape(initialise, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    trainable = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return NetworkCost(trainable, sum(kernels), sum(expanded), sum(operations))


def matched_filters(base: int, group: Group, matched: Matched) -> int:
    """Filters for every group element that make a comparison with a plain network fair.

    Args:
        base: filters of the plain network.
        group: the group.
        matched: ``features``: as many feature maps, ``base / |G|``; ``parameters``: about as many
            parameters, ``base / sqrt(|G|)``; ``filters``: ``base``.

    Raises:
        ValueError: unknown kind.
    """
    shares = {"features": group.order, "parameters": math.sqrt(group.order), "filters": 1}
    if matched not in shares:
        raise ValueError(f"matched {matched!r} must be one of {', '.join(shares)}")
    return max(1, round(base / shares[matched]))
