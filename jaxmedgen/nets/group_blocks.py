"""The block of group networks: group convolutions, each with its norm and rectifier."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from jaxmedgen.nets.group_layers import GroupConv3D
from jaxmedgen.nets.layers import Dtype, Norm, NormKind
from jaxmedgen.ops.groups import Group


class GroupBlock(nn.Module):
    """Group convolutions, each followed by norm and leaky rectifier.

    Attributes:
        features: output channels for every group element.
        group: the group.
        input_group: that of the input; the trivial one lifts.
        convs: how many.
        kernel_size: taps.
        slope: negative slope of the rectifiers.
        padding: as `group_unet.GroupUNet3D`.
        norm: kind of normalisation.
        dtype: precision of the arithmetic.
    """

    features: int
    group: Group
    input_group: Group
    convs: int = 2
    kernel_size: int = 3
    slope: float = 0.01
    padding: str = "same"
    norm: NormKind = "instance"
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Float[Array, " b *s c"], train: bool) -> Float[Array, " b *s2 k"]:
        """Images or fields in, fields out."""
        for i in range(self.convs):
            x = GroupConv3D(
                x.shape[-1],
                self.features,
                self.kernel_size,
                padding=self.padding.upper(),
                input_group=self.input_group if i == 0 else self.group,
                output_group=self.group,
                dtype=self.dtype,
            )(x)
            x = jax.nn.leaky_relu(Norm(self.norm, dtype=self.dtype)(x, train), self.slope)
        return x
