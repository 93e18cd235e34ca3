"""GenSeg's decoder: one set of convolutions that translates and segments, by switched norms.

Source: Vorontsov et al., arXiv 1904.01636; block details after its published implementation. The
perceptron that predicts scales and biases has rectifiers here; the published one has none and ties
two of its layers, so that it is linear.
"""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.nets.adaptive_norm import AdaptiveInstanceNorm, ScaleBiasMLP, layer_normalised
from jaxmedgen.nets.genseg_encoder import Skip, border
from jaxmedgen.nets.layers import Dtype, Norm
from jaxmedgen.nets.spectral import SpectralConv
from jaxmedgen.ops.unpool import max_unpool
from jaxmedgen.ops.upsample import upsample

Mode = Literal["translation", "segmentation"]
LongSkips = Literal["none", "skinny", "concatenate", "sum", "places"]
Switch = Literal["layer", "instance", "adaptive"]


class SwitchedNorm(nn.Module):
    """A normalisation with one scale and one bias a channel for each of several modes.

    Each mode has arrays of its own: `train.idle.hold_idle` keeps those that a step does not use.

    Attributes:
        modes: how many.
        kind: ``layer`` (MUNIT's, over space and channels) or ``instance``.
        dtype: precision of the output; statistics are in float32.
    """

    modes: int = 1
    kind: Literal["layer", "instance"] = "layer"
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"], mode: Int[Array, " b"]) -> Float[Array, "b *s c"]:
        """Normalised images; `mode` of each sample."""
        c = x.shape[-1]
        uniform, zeros = nn.initializers.uniform(1.0), nn.initializers.zeros
        scale, bias = (
            jnp.stack(
                [self.param(f"{name}{m}", start, (c,), jnp.float32) for m in range(self.modes)]
            )
            for name, start in (("scale", uniform), ("bias", zeros))
        )
        over_space = (x.shape[0], *[1] * (x.ndim - 2), c)
        if self.modes > 1:
            # A product with one-hot rows gathers the table without a scatter on the way back.
            chosen = jax.nn.one_hot(mode, self.modes)
            scale, bias = ((chosen @ table).reshape(over_space) for table in (scale, bias))
        else:
            scale, bias = scale[0], bias[0]
        values = x.astype(jnp.float32)
        if self.kind == "layer":
            y = layer_normalised(values, scale, bias)
        else:
            y = Norm("instance", affine=False)(values) * scale + bias
        return y.astype(self.dtype or x.dtype)


class Decoder(nn.Module):
    """A code and the encoder's maps to an image (tanh) or to logits of a segmentation.

    Blocks double the resolution: norm, rectifier (neither in the first block), nearest
    enlargement, convolution, with a short skip if wanted (never in the first); then the long skip
    of that resolution joins. At the end come two convolutions with norm and rectifier, the last of
    seven taps. With both modes the last convolution is each mode's own and the others are shared,
    their norms being switched.

    Attributes:
        features: channels of the blocks, coarsest first.
        channels: of the images.
        classes: logits of the segmentation.
        modes: what it is used for.
        switch: how norms differ between modes: ``layer`` norms (or ``instance`` norms) with
            parameters of their own, or ``adaptive``: instance norms in segmentation whose scales
            and biases a perceptron predicts from the code.
        taps: of the convolutions.
        short_skips: whether blocks add their input.
        long_skips: how the encoder's maps join: ``skinny`` compresses them to one channel and
            concatenates, ``concatenate`` takes them whole, ``sum`` adds them, ``places`` enlarges
            by putting values where the encoder's maxima were, ``none``.
        domains: kinds of findings, each with norms of its own.
        spectral: whether convolutions have spectral norm one; those of the segmentation's end have
            not.
        dtype: precision of the arithmetic; logits are made in float32.
    """

    features: Sequence[int] = (256, 128, 64, 32)
    channels: int = 1
    classes: int = 1
    modes: Sequence[Mode] = ("translation",)
    switch: Switch = "layer"
    taps: int = 3
    short_skips: bool = True
    long_skips: LongSkips = "skinny"
    domains: int = 1
    spectral: bool = True
    dtype: Dtype = None

    @nn.compact
    def __call__(
        self,
        code: Float[Array, "b *l k"],
        skips: tuple[Skip, ...],
        mode: Mode = "translation",
        domain: Int[Array, " b"] | None = None,
        update: bool = False,
    ) -> Float[Array, "b *s o"]:
        """Decodes.

        Args:
            code: from the encoder, or parts of it.
            skips: of the same images, as the encoder gives them (finest first); they decide the
                sizes also where they do not join.
            mode: what for.
            domain: number of each sample's kind of finding, 0 by default.
            update: moves the power iterations of the spectral norms on by one step.

        Returns:
            Images in [-1, 1], or float32 logits.

        Raises:
            ValueError: a mode that this decoder has not, or not one skip a block.
        """
        self._check(mode, skips)
        if domain is None:
            domain = jnp.zeros(code.shape[0], jnp.int32)
        norm = self._norms(code, skips, mode, domain)

        def conv(x, width, taps, name, spectral=True, dtype=self.dtype):
            return SpectralConv(
                width,
                taps,
                padding=border(x, taps),
                dtype=dtype,
                normalise=self.spectral and spectral,
                name=name,
            )(x, update)

        x = code
        for n, (width, skip) in enumerate(zip(self.features, reversed(skips), strict=True)):
            y = x if n == 0 else jax.nn.relu(norm(x))
            if self.long_skips == "places":
                y = max_unpool(conv(y, width, self.taps, f"block{n}"), skip.places)
            else:
                y = conv(upsample(y, 2), width, self.taps, f"block{n}")
            if self.short_skips and n:
                short = x if x.shape[-1] == width else conv(x, width, 1, f"shortcut{n}")
                y = y + upsample(short, 2)
            y = fit_size(y, skip.features.shape[1:-1])
            x = self._join(y, skip.features, n, conv)
        x = conv(jax.nn.relu(norm(x)), x.shape[-1], self.taps, "last")
        x = jax.nn.relu(norm(x))
        if mode == "translation":
            return jnp.tanh(conv(x, self.channels, 7, "image").astype(jnp.float32))
        x = conv(x, max(self.channels, self.classes), 7, "segmentation", spectral=False)
        return conv(
            x.astype(jnp.float32), self.classes, 1, "classifier", spectral=False, dtype=jnp.float32
        )

    def _join(self, x, skip, n, conv):
        if self.long_skips == "skinny":
            skip = Norm("instance", affine=False, dtype=self.dtype)(skip)
            return jnp.concatenate([x, conv(skip, 1, 1, f"skip{n}").astype(x.dtype)], -1)
        if self.long_skips == "concatenate":
            return jnp.concatenate([x, skip.astype(x.dtype)], -1)
        return x + skip.astype(x.dtype) if self.long_skips == "sum" else x

    def _norms(self, code, skips, mode, domain):
        """A function that normalises at one place after the other."""
        places = iter(range(len(self.features) + 1))
        both = len(self.modes) > 1
        if not (both and self.switch == "adaptive" and mode == "segmentation"):
            kind = "instance" if both and self.switch == "instance" else "layer"
            own = both and self.switch != "adaptive"  # rows of the table for each mode
            count = self.domains * (len(self.modes) if own else 1)
            which = self.domains * (list(self.modes).index(mode) if own else 0) + domain
            return lambda x: SwitchedNorm(
                count, kind, dtype=self.dtype, name=f"norm{next(places)}"
            )(x, which)
        more = {"skinny": 1}.get(self.long_skips, 0)
        widths = [width + more for width in self.features]
        if self.long_skips == "concatenate":
            sizes = [skip.features.shape[-1] for skip in reversed(skips)]
            widths = [a + b for a, b in zip(self.features, sizes)]
        flat = code.reshape(code.shape[0], -1).astype(jnp.float32)
        if self.domains > 1:
            flat = jnp.concatenate([flat, jax.nn.one_hot(domain, self.domains)], -1)
        pairs = ScaleBiasMLP((*widths, widths[-1]), name="scale_bias")(flat)
        return lambda x: AdaptiveInstanceNorm(dtype=self.dtype)(x, *pairs[next(places)])

    def _check(self, mode, skips):
        if mode not in self.modes:
            raise ValueError(f"Decoder: mode='{mode}' but it was built for {tuple(self.modes)}")
        if len(skips) != len(self.features):
            raise ValueError(
                f"Decoder: {len(self.features)} blocks need as many skips, got {len(skips)}"
            )


def fit_size(x: Float[Array, "b *s c"], size: tuple[int, ...]) -> Float[Array, "b *t c"]:
    """`x` cropped or padded by zeros around its centre to a size."""
    for axis, new in enumerate(size, start=1):
        old = x.shape[axis]
        if old > new:
            start = (old - new) // 2
            x = jax.lax.slice_in_dim(x, start, start + new, axis=axis)
        elif old < new:
            pads = [(0, 0)] * x.ndim
            pads[axis] = ((new - old) // 2, new - old - (new - old) // 2)
            x = jnp.pad(x, pads)
    return x
