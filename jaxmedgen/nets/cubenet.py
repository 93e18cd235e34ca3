"""CubeNet: a classifier of volumes that does not change when the volume is turned.

Group convolutions over V, T or O (the turns of a box, a tetrahedron, a cube), then the mean over
space and group: the class scores are the same for every turned copy. Worrall & Brostow, "CubeNet:
equivariance to 3D rotation and translation", ECCV 2018.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxmedgen.nets.group_layers import TRIVIAL, GroupConv3D, channel_dropout
from jaxmedgen.nets.layers import Dtype, Norm, NormKind
from jaxmedgen.ops.groups import Group


class CubeNet(nn.Module):
    """Lifting convolution, stages of stride 2, global mean, two dense layers.

    A kernel of 3 taps and stride 2 stays centred on axes of odd length only; on even ones it would
    sample off the centre, and the turned image elsewhere than the image. There the kernel has 4
    taps. So weights belong to a size of images; halving it must not be left to `padding`.

    Attributes:
        group: ``point_group("V")``, ``"T"``, ``"O"`` or another; the trivial one is the baseline.
        classes: number of classes.
        channels: feature maps of the first stage; ``channels / |G|`` for every group element, which
            double from stage to stage.
        kernel_size: taps of the first convolution, 5 or 3.
        stages: number of stages; all but the first halve the image.
        hidden: width of the dense layer.
        dropout: share of its units dropped in training.
        norm: of every convolution, over space and group.
        kernel_noise: deviation of CubeNet's multiplicative noise on the kernels in training,
            equivariant in distribution only; 0 for none.
        dtype: precision of the convolutions.
    """

    group: Group
    classes: int
    channels: int = 24
    kernel_size: int = 5
    stages: int = 5
    hidden: int = 512
    dropout: float = 0.5
    norm: NormKind = "batch"
    kernel_noise: float = 0.0
    dtype: Dtype = None

    def features(self, stage: int) -> int:
        """Channels of a stage for every group element."""
        return max(1, round(self.channels / self.group.order)) * 2**stage

    @nn.compact
    def __call__(
        self,
        x: Float[Array, " b *s c"],
        train: bool = False,
        keys: Key[Array, " b"] | None = None,
        noise_key: Key[Array, ""] | None = None,
    ) -> Float[Array, " b k"]:
        """Class scores.

        Args:
            x: images of as many axes as the group has.
            train: whether batch norm takes this batch's statistics.
            keys: one key a sample, for dropout; None drops nothing.
            noise_key: key of the kernel noise, one for all samples and, since every device has the
                same kernels, for all devices; None adds none.

        Raises:
            ValueError: images of another number of axes, or unequal axes that the group exchanges.
        """
        for stage in range(self.stages):
            first, size = stage == 0, x.shape[1 : 1 + self.group.dim]
            taps = tuple(3 + (n % 2 == 0) for n in size)
            noise = None
            if noise_key is not None and self.kernel_noise:
                noise = jax.random.fold_in(noise_key, stage)
            x = GroupConv3D(
                x.shape[-1],
                self.features(stage),
                self.kernel_size if first else taps,
                1 if first else 2,
                input_group=TRIVIAL if first else self.group,
                output_group=self.group,
                kernel_noise=self.kernel_noise,
                dtype=self.dtype,
                name=f"stage_{stage}",
            )(x, noise)
            x = nn.relu(Norm(self.norm, dtype=self.dtype, name=f"norm_{stage}")(x, train))
        x = x.astype(jnp.float32).mean(tuple(range(1, x.ndim - 1)))
        x = nn.relu(nn.Dense(self.hidden)(x))
        if keys is not None and self.dropout:
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, self.stages)
            x = channel_dropout(x, self.dropout, own)
        return nn.Dense(self.classes)(x)
