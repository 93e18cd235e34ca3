"""GenSeg's networks: an encoder whose code is split, and the decoders of its parts.

Source: Vorontsov et al., "Boosting segmentation with weak supervision from image-to-image
translation", arXiv 1904.01636. P are images with a finding, A images without.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.nets.discriminators import MultiScaleDiscriminator
from jaxmedgen.nets.genseg_decoder import Decoder
from jaxmedgen.nets.genseg_encoder import Encoder, Skip
from jaxmedgen.types import Leaf


class Translations(NamedTuple):
    """A batch of both domains and what is made of it; images ``[b, *s, c]``.

    Attributes:
        code_p: code of the images with a finding, ``[b, *l, k]``.
        code_a: of those without.
        skips_p: the encoder's maps of the images with a finding.
        skips_a: of those without.
        x_pa: the finding removed.
        x_aa: reconstructions of the images without.
        x_pp: reconstructions of those with, ``x_pa`` plus a residual.
        x_ap: a finding added, ``x_aa`` plus a residual; None without a split code.
        x_pq: a finding exchanged for one of another domain, ``x_pa`` plus a residual; None with one
            domain.
    """

    code_p: Leaf
    code_a: Leaf
    skips_p: Leaf
    skips_a: Leaf
    x_pa: Leaf
    x_aa: Leaf
    x_pp: Leaf
    x_ap: Leaf
    x_pq: Leaf = None


class TranslationNet(nn.Module):
    """Encoder, common decoder and residual decoder.

    With ``s = E(x)`` split by channel into common c and unique u: ``x_PA = D_c(c_P)``,
    ``x_AA = D_c(c_A)``, ``x_PP = x_PA + D_u(c_P, u_P)``, ``x_AP = x_AA + D_u(c_A, u)`` with u drawn
    from N(0, I). Sums are not squashed: they may leave [-1, 1]. A residual is always decoded with
    the long skips of the image that it is added to.

    Attributes:
        encoder: E.
        common: D_c.
        residual: D_u; with mode ``segmentation`` it is re-used as the segmenter.
        unique: channels of u, divided evenly among the domains.
        classes: label values, background included.
        split: False gives D_c the whole code: findings can be removed but not added.
        domains: kinds of findings, each with its block of u.
    """

    encoder: Encoder
    common: Decoder
    residual: Decoder
    unique: int = 128
    classes: int = 2
    split: bool = True
    domains: int = 1

    def __call__(self, image: Float[Array, "b *s c"]) -> None:
        """Runs every part once, for their parameters."""
        code, skips = self.encode(image)
        common, unique = self.parts(code)
        domain = jnp.zeros(image.shape[0], jnp.int32)
        self.remove(code, skips)
        self.residue(common, self.block(unique, domain), skips, domain)
        if "segmentation" in self.residual.modes:
            self.segment(code, skips)

    def encode(
        self, image: Float[Array, "b *s c"], update: bool = False
    ) -> tuple[Float[Array, "b *l k"], tuple[Skip, ...]]:
        """The code s and the long skips."""
        return self.encoder(image, update)

    def parts(
        self, code: Float[Array, "b *l k"]
    ) -> tuple[Float[Array, "b *l c"], Float[Array, "b *l u"]]:
        """The common and the unique part of a code."""
        return code[..., : -self.unique], code[..., -self.unique :]

    def block(self, unique: Float[Array, "b *l u"], domain: Int[Array, " b"]) -> Array:
        """The channels of u that belong to each sample's domain."""
        if self.domains == 1:
            return unique
        blocks = unique.reshape(*unique.shape[:-1], self.domains, -1)
        chosen = jax.nn.one_hot(domain, self.domains).reshape(
            -1, *[1] * (unique.ndim - 2), self.domains, 1
        )
        return (blocks * chosen).sum(-2)

    def remove(
        self, code: Float[Array, "b *l k"], skips: tuple[Skip, ...], update: bool = False
    ) -> Float[Array, "b *s c"]:
        """The image without a finding, ``D_c(c)``."""
        code = self.parts(code)[0] if self.split else code
        return self.common(code, skips, update=update)

    def residue(
        self,
        common: Float[Array, "b *l c"],
        unique: Float[Array, "b *l u"],
        skips: tuple[Skip, ...],
        domain: Int[Array, " b"],
        update: bool = False,
    ) -> Float[Array, "b *s o"]:
        """What is added for a finding of a domain, ``D_u(c, u)``; `unique` is its block."""
        code = jnp.concatenate([common, unique], -1)
        return self.residual(code, skips, "translation", domain, update)

    def segment(
        self, code: Float[Array, "b *l k"], skips: tuple[Skip, ...]
    ) -> Float[Array, "b *s o"]:
        """Logits of the foreground classes by the re-used decoder, one pass a domain."""
        if self.domains == 1:
            return self.residual(code, skips, "segmentation")
        common, unique = self.parts(code)
        logits = []
        for number in range(self.domains):
            domain = jnp.full(code.shape[0], number)
            part = jnp.concatenate([common, self.block(unique, domain)], -1)
            logits.append(self.residual(part, skips, "segmentation", domain))
        return jnp.concatenate(logits, -1)

    def translate(
        self,
        present: Float[Array, "b *s c"],
        absent: Float[Array, "b *s c"],
        prior: Float[Array, "b *l u"],
        domain: Int[Array, " b"],
        other: Int[Array, " b"] | None = None,
        exchange: Float[Array, "b *l u"] | None = None,
        update: bool = False,
    ) -> Translations:
        """All domains through all translations, in one pass of each network.

        Args:
            present: images with a finding.
            absent: images without.
            prior: u for the findings to be added.
            domain: of the findings in `present`, and of those to be added.
            other: of the findings that are to take the place of those in `present`, if any.
            exchange: their u.
            update: moves the power iterations of the spectral norms on by one step.
        """
        b = present.shape[0]
        code, skips = self.encode(jnp.concatenate([present, absent]), update)
        removed = self.remove(code, skips, update)
        common, unique = self.parts(code)
        own = self.block(unique[:b], domain)
        skips_p, skips_a = (jax.tree.map(lambda x, i=i: x[i : i + b], skips) for i in (0, b))
        if self.split:
            kinds, looks = [domain, domain], [own, prior]
            if other is not None:
                kinds, looks = [*kinds, other], [*looks, exchange]
                common = jnp.concatenate([common, common[:b]])
                skips = jax.tree.map(lambda x: jnp.concatenate([x, x[:b]]), skips)
            kinds, looks = jnp.concatenate(kinds), jnp.concatenate(looks)
            added = self.residue(common, looks, skips, kinds, update)
        else:
            added = self.residue(common[:b], own, skips_p, domain, update)
        return Translations(
            code_p=code[:b],
            code_a=code[b:],
            skips_p=skips_p,
            skips_a=skips_a,
            x_pa=removed[:b],
            x_aa=removed[b:],
            x_pp=removed[:b] + added[:b],
            x_ap=removed[b:] + added[b : 2 * b] if self.split else None,
            x_pq=None if other is None else removed[:b] + added[2 * b :],
        )


class DomainDiscriminators(nn.Module):
    """One discriminator for images with a finding and one for images without.

    Either may be told where a slice lies in its volume, from 0 to 1: the number is one more channel
    of the image.

    Attributes:
        presence: with one logit a domain of findings.
        absence: the other.
    """

    presence: MultiScaleDiscriminator
    absence: MultiScaleDiscriminator

    def __call__(
        self,
        present: Float[Array, "p *s c"],
        absent: Float[Array, "a *s c"],
        domain: Int[Array, " p"],
        places: tuple[Float[Array, " p"] | None, Float[Array, " a"] | None] = (None, None),
        update: bool = False,
    ) -> tuple[list[Float[Array, " p *_"]], list[Float[Array, " a *_"]]]:
        """Logits by scale of either discriminator, each for its images at their places."""
        return (
            self.judge_presence(present, domain, places[0], update),
            self.judge_absence(absent, places[1], update),
        )

    def judge_presence(
        self,
        image: Float[Array, "b *s c"],
        domain: Int[Array, " b"],
        place: Float[Array, " b"] | None = None,
        update: bool = False,
    ) -> list[Float[Array, " b *_"]]:
        """Logits by scale that the images hold a real finding of their domain."""
        found = []
        for maps in self.presence(_placed(image, place), update):
            logits = maps[-1]
            chosen = jax.nn.one_hot(domain, logits.shape[-1])
            found.append((logits * chosen.reshape(-1, *[1] * (logits.ndim - 2), chosen.shape[-1]))
                         .sum(-1))  # fmt: skip
        return found

    def judge_absence(
        self,
        image: Float[Array, "b *s c"],
        place: Float[Array, " b"] | None = None,
        update: bool = False,
    ) -> list[Float[Array, " b *_"]]:
        """Logits by scale that the images are real ones without a finding."""
        return [maps[-1][..., 0] for maps in self.absence(_placed(image, place), update)]


def _placed(image, place):
    if place is None:
        return image
    channel = jnp.broadcast_to(place.reshape(-1, *[1] * (image.ndim - 1)), (*image.shape[:-1], 1))
    return jnp.concatenate([image, channel.astype(image.dtype)], -1)


class StatisticsNetwork(nn.Module):
    """The critic T of MINE: a perceptron on two flattened vectors (Belghazi et al., ICML 2018).

    Attributes:
        features: widths of the rectified layers.
    """

    features: tuple[int, ...] = (1000, 1000, 1000)

    @nn.compact
    def __call__(self, x: Float[Array, " b *s"], y: Float[Array, " b *t"]) -> Float[Array, " b"]:
        """One number a pair."""
        flat = [v.reshape(v.shape[0], -1).astype(jnp.float32) for v in (x, y)]
        z = jnp.concatenate(flat, -1)
        for width in self.features:
            z = jax.nn.relu(nn.Dense(width)(z))
        return nn.Dense(1)(z)[:, 0]
