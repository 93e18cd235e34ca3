"""U-Net of steerable convolutions: equivariant under all rotations, up to the sampling.

Under right-angle turns it is exactly equivariant; under others as far as kernels of a few taps can
tell. Sources: Weiler et al., "3D steerable CNNs", 2018; Diaz, Geiger, McKinley, "Leveraging
SO(3)-steerable convolutions for pose-robust semantic segmentation in 3D medical data", 2024.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxmedgen.nets.group_layers import channel_dropout
from jaxmedgen.nets.steerable_layers import (
    IrrepNorm,
    SteerableConv,
    concatenate_fields,
    gate,
    gate_multiplicities,
    pool_irreps,
)
from jaxmedgen.ops.group_conv import Reduce
from jaxmedgen.ops.upsample import upsample


class SteerableUNet(nn.Module):
    """Irrep U-Net: blocks of twice convolution, norm and gate on scalars, vectors and tensors.

    Level i has ``4 n 2^i`` scalars, ``2 n 2^i`` vectors and ``n 2^i`` fields of degree 2.

    Attributes:
        num_classes: channels of the output.
        multiplicity: ``n``.
        depth: number of poolings.
        kernel_size: taps along the axis with the finest voxels.
        degree: largest degree of the kernels' harmonics.
        pool: ``mean`` or ``max`` after the low-pass filter.
        dropout: rate at which channels are dropped after each encoder level.
        spacing: voxel size in mm; kernels are round in mm.
    """

    num_classes: int
    multiplicity: int = 2
    depth: int = 2
    kernel_size: int = 5
    degree: int = 2
    pool: Reduce = "mean"
    dropout: float = 0.0
    spacing: tuple[float | int, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if len(self.spacing) != 3:
            raise ValueError(f"spacing {self.spacing}: steerable networks are 3D, give 3 numbers")
        super().__post_init__()

    @property
    def classes(self) -> int:
        """Channels of the output, as other networks call them."""
        return self.num_classes

    @property
    def size_multiple(self) -> int:
        """Every axis of an input must be a multiple of this."""
        return 2**self.depth

    @nn.compact
    def logits(
        self,
        x: Float[Array, "b d h w c"],
        train: bool = False,
        keys: Key[Array, " b"] | None = None,
    ) -> Float[Array, "b d h w k"]:
        """Scores before the softmax.

        Args:
            x: images; every axis a multiple of ``2^depth``.
            train: without effect: the norm has no running statistics.
            keys: one key a sample for dropout; None drops nothing.

        Raises:
            ValueError: the image size does not fit.
        """
        if any(n % self.size_multiple for n in x.shape[1:-1]):
            raise ValueError(
                f"image size {x.shape[1:-1]} must be multiples of {self.size_multiple}; pad it"
            )
        fields, skips = (x[..., None, :],), []
        for level in range(self.depth + 1):
            spacing = self._spacing(level)
            if level:
                fields = pool_irreps(fields, self._spacing(level - 1), self.pool)
            fields = self._block(fields, level, spacing, f"encoder_{level}")
            if keys is not None and self.dropout:
                own = jax.vmap(jax.random.fold_in, (0, None))(keys, level)
                split = [jax.vmap(jax.random.fold_in, (0, None))(own, n) for n in range(3)]
                fields = tuple(channel_dropout(f, self.dropout, k) for f, k in zip(fields, split))
            skips.append(fields)
        for level in reversed(range(self.depth)):
            fields = tuple(upsample(f, (2, 2, 2, 1), "linear") for f in fields)
            fields = concatenate_fields(fields, skips[level])
            fields = self._block(fields, level, self._spacing(level), f"decoder_{level}")
        head = self._conv((self.num_classes,), self._spacing(0), "head")
        (scores,) = head(fields)
        bias = self.param("bias", nn.initializers.zeros, (self.num_classes,), jnp.float32)
        return scores[..., 0, :] + bias

    def __call__(
        self,
        x: Float[Array, "b d h w c"],
        train: bool = False,
        keys: Key[Array, " b"] | None = None,
    ) -> Float[Array, "b d h w k"]:
        """Class probabilities; arguments as `logits`."""
        return jax.nn.softmax(self.logits(x, train, keys), axis=-1)

    def multiplicities(self, level: int) -> tuple[int, int, int]:
        """Channels of degrees 0, 1 and 2 at a level."""
        n = self.multiplicity * 2**level
        return (4 * n, 2 * n, n)

    def _spacing(self, level):
        return tuple(float(s) * 2**level for s in self.spacing)

    def _conv(self, multiplicities, spacing, name):
        return SteerableConv(multiplicities, self.kernel_size, self.degree, spacing, name=name)

    def _block(self, fields, level, spacing, name):
        wide = gate_multiplicities(self.multiplicities(level))
        for i in range(2):
            fields = self._conv(wide, spacing, f"{name}_conv_{i}")(fields)
            fields = gate(IrrepNorm(name=f"{name}_norm_{i}")(fields))
        return fields
