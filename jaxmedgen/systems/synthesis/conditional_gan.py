"""Images from label maps: a conditional GAN with control of style (SPADE, VAE-GAN and baselines).

Every image has an exact annotation, the label map that it was made from. Its style (contrast) is
fixed by the training images, drawn, read from another image, or that of a vendor. After Park et
al., CVPR 2019 (SPADE), and Amirrajab et al., CMIG 101, 2022, and MELBA 2023:010 (cardiac MR).

Generator: ``L_GAN + w_FM L_FM + w_P L_P (+ w_KL KL + w_1 L_1)``; discriminator: hinge or least
squares, on label map and image together, at two scales. Per step one update of the generator (with
the style encoder), then one of the discriminator, on the same batch.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from jaxmedgen.augment.mixing import one_hot
from jaxmedgen.augment.quarter_turns import QuarterTurns
from jaxmedgen.losses import adversarial
from jaxmedgen.losses.perceptual import perceptual_loss
from jaxmedgen.losses.variational import gaussian_kl
from jaxmedgen.nets.discriminators import MultiScaleDiscriminator
from jaxmedgen.nets.synthesizer import Synthesizer
from jaxmedgen.ops.percentiles import scale_intensities
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.synthesis.feature_maps import FeatureMaps
from jaxmedgen.systems.synthesis.padding import pad_to
from jaxmedgen.systems.synthesis.weights import Weights
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Augment, Batch

GENERATOR, DISCRIMINATOR, FEATURES = "generator", "discriminator", "features"


@dataclasses.dataclass(frozen=True)
class LabelToImageGan:
    """Generator, discriminator and feature network with their losses.

    Attributes:
        net: generator with its source of style.
        discriminator: of label map and image.
        features: of the perceptual loss.
        optimisers: settings by player.
        shape: of the images that the networks see; smaller ones are padded.
        classes: of the label maps.
        weights: of the losses.
        turns: quarter turns of the training images, or None.
        augmentation: further transform of the training images.
        scaling: of intensities to [-1, 1], see `ops.percentiles.scale_intensities`.
        vendors: numbers of the vendors that samples are drawn from, where the net has vendors.
        vendor_names: of all numbers.
        channels: of the images.
    """

    net: Synthesizer
    discriminator: MultiScaleDiscriminator
    features: FeatureMaps
    optimisers: Mapping[str, PlayerSettings]
    shape: tuple[int, ...]
    classes: int
    weights: Weights
    turns: QuarterTurns | None = None
    augmentation: Augment | None = None
    scaling: str = "slice"
    vendors: tuple[int, ...] = ()
    vendor_names: tuple[str, ...] = ()
    channels: int = 1

    def players(self) -> Mapping[str, PlayerSettings]:
        """Generator (with style encoder), discriminator and perhaps a feature network."""
        return self.optimisers

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters; nothing but the settings is looked at."""
        del batch
        keys = jax.random.split(key, 4)
        label = jnp.zeros((1, *self.shape, self.classes))
        image = jnp.zeros((1, *self.shape, self.channels))
        vendor = jnp.zeros(1, jnp.int32) if self.net.vendors else None
        both = jnp.concatenate([label, image], -1)
        variables = {
            GENERATOR: self.net.init(keys[0], label, self._noise(keys[:1]), image, vendor),
            DISCRIMINATOR: self.discriminator.init(keys[1], both),
        }
        found = self.features.init(keys[2], image)
        if found is not None:
            variables[FEATURES] = found
        return create_state(keys[3], variables, self.players())

    @property
    def needs_style(self) -> bool:
        """Whether images are made in the style of given ones only (`stylise`)."""
        return self.net.deterministic

    def objectives(self) -> tuple[Objective, ...]:
        """Generator, then discriminator; the feature network's segmentation before them."""
        adversaries = (
            Objective(GENERATOR, (GENERATOR,), self._generator_loss),
            Objective(DISCRIMINATOR, (DISCRIMINATOR,), self._discriminator_loss),
        )
        if not self.features.trained:
            return adversaries
        return (Objective(FEATURES, (FEATURES,), self._features_loss), *adversaries)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Intensities to [-1, 1], padding to the networks' shape, turns and augmentation."""
        label = batch["label"]
        image = scale_intensities(batch["image"], self.scaling, batch.get("window"))
        split = jax.vmap(jax.random.split)(keys)
        if self.augmentation is not None:
            image, label = self.augmentation(split[:, 0], image, label)
        if self.turns is not None:
            image, label = self.turns(split[:, 1], image, label)
        image = jnp.clip(pad_to(image, self.shape, -1.0), -1.0, 1.0)
        return {**batch, "image": image, "label": pad_to(label, self.shape, 0)}

    def encode(
        self, variables: PlayerVariables, image: Float[Array, " b *s c"]
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"] | None]:
        """Mean and log-variance of the style of images of any intensities.

        Raises:
            ValueError: the styles of this system are not read from images.
        """
        if self.net.style is None:
            raise ValueError("this generator reads no style from images: train arm=vae or style")
        image = pad_to(scale_intensities(image, self.scaling), self.shape, -1.0)
        return self.net.apply(variables[GENERATOR], image, method="encode")

    def sample(
        self, variables: PlayerVariables, keys: Key[Array, " b"], label: Int[Array, " b *s"]
    ) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
        """Images in [-1, 1] of label maps, or stacks of them, in styles that are drawn.

        Args:
            variables: by player.
            keys: one a sample; a stack has one style.
            label: label maps, or stacks ``[b, n, *s]`` with their slices first.

        Raises:
            ValueError: the system has no style to draw, or label maps larger than the networks'.
        """
        if self.needs_style:
            raise ValueError(
                "this generator draws no styles (arm=style): give an image with `stylise`"
            )
        split = jax.vmap(jax.random.split)(keys)
        z, vendor = self._noise(split[:, 0]), None
        if self.net.vendors:
            place = jax.vmap(lambda k: jax.random.randint(k, (), 0, len(self.vendors)))
            vendor = jnp.asarray(self.vendors, jnp.int32)[place(split[:, 1])]
        return self.render(variables, label, z, vendor), label

    @property
    def style_names(self) -> tuple[str, ...]:
        """The vendors that it was trained on, where it has any."""
        return tuple(self.vendor_names[k] for k in self.vendors) if self.net.vendors else ()

    def sample_style(
        self,
        variables: PlayerVariables,
        keys: Key[Array, " b"],
        label: Int[Array, " b *s"],
        style: str,
    ) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
        """As `sample`, all of one vendor of `style_names`.

        Raises:
            ValueError: another vendor.
        """
        if style not in self.style_names:
            known = ", ".join(self.style_names) or "none (train arm=vendor)"
            raise ValueError(f"vendor '{style}': this generator knows {known}")
        z = self._noise(jax.vmap(jax.random.split)(keys)[:, 0])
        vendor = jnp.full(len(keys), self.vendor_names.index(style), jnp.int32)
        return self.render(variables, label, z, vendor), label

    def stylise(
        self,
        variables: PlayerVariables,
        label: Int[Array, " b *s"],
        style: Float[Array, " b *r c"],
    ) -> Float[Array, " b *s c"]:
        """Images in [-1, 1] of label maps (or stacks, slices first) in the styles of images.

        Raises:
            ValueError: the styles of this system are not read from images.
        """
        return self.render(variables, label, self.encode(variables, style)[0])

    def interpolate(
        self,
        variables: PlayerVariables,
        label: Int[Array, " b *s"],
        first: Float[Array, " b *r c"],
        last: Float[Array, " b *r c"],
        places: Float[Array, " steps"],
    ) -> Float[Array, "steps b *s c"]:
        """Images of label maps in styles on the line through those of two images, at 0 and 1."""
        ends = [self.encode(variables, image)[0] for image in (first, last)]
        between = [(1 - t) * ends[0] + t * ends[1] for t in places]
        return jnp.stack([self.render(variables, label, z) for z in between])

    def render(
        self,
        variables: PlayerVariables,
        label: Int[Array, " b *s"],
        z: Float[Array, "b d"],
        vendor: Int[Array, " b"] | None = None,
    ) -> Float[Array, " b *s c"]:
        """Images in [-1, 1] of label maps (or stacks, slices first) and latent vectors.

        Raises:
            ValueError: label maps larger than the networks', or no vendor where one is needed.
        """
        if self.net.vendors and vendor is None:
            raise ValueError("render: this generator is conditioned on vendors: give vendor=")
        given = label.shape
        if label.ndim == len(self.shape) + 2:
            z, vendor = (None if x is None else jnp.repeat(x, given[1], 0) for x in (z, vendor))
            label = label.reshape(-1, *given[2:])
        size = label.shape[1:]
        padded = one_hot(pad_to(label, self.shape, 0), self.classes)
        image = self.net.apply(variables[GENERATOR], padded, z, vendor, method="generate")
        image = image[(slice(None), *(slice(n) for n in size))]
        return image.reshape(*given, self.channels)

    def show(
        self, variables: PlayerVariables, keys: Key[Array, " b"], batch: Batch
    ) -> dict[str, Float[Array, " b *s c"]]:
        """Label maps, real images, and images in their own and in drawn styles."""
        label, image = batch["label"], batch["image"]
        shown = {"label": label[..., None].astype(jnp.float32), "real": image}
        if self.net.style is not None:
            code = self.net.apply(variables[GENERATOR], image, method="encode")[0]
            shown["own_style"] = self.render(variables, label, code)
            shown["next_style"] = self.render(variables, label, jnp.roll(code, 1, 0))
        if not self.net.deterministic:
            shown["drawn_style"] = self.sample(variables, keys, label)[0]
        return shown

    def _noise(self, keys):
        return jax.vmap(lambda key: jax.random.normal(key, (self.net.latent,)))(keys)

    def _made(self, inputs, label, update):
        """Generated images with posteriors, and the generator's new collections."""
        variables, batch = inputs.variables[GENERATOR], inputs.batch
        if self.net.vendors and "vendor" not in batch:
            raise ValueError(
                "arm=vendor needs the vendor of every case: set data.vendor_of (a table, or a "
                "pattern of case names) and data.vendors"
            )
        vendor = batch["vendor"] if self.net.vendors else None
        noise = self._noise(inputs.keys)
        return self.net.apply(
            variables,
            label,
            noise,
            batch["image"],
            vendor,
            train=True,
            update=update,
            mutable=[name for name in variables if name != "params"],
        )

    def _maps(self, inputs, label, image):
        pair = jnp.concatenate([label, image], -1)
        return self.discriminator.apply(inputs.variables[DISCRIMINATOR], pair)

    def _generator_loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        w, real = self.weights, inputs.batch["image"]
        label = one_hot(inputs.batch["label"], self.classes)
        made, updated = self._made(inputs, label, update=True)
        # Instance norms judge samples one by one: real and fake need not go through together here,
        # and the real ones take no gradient.
        fakes = self._maps(inputs, label, made.image)
        reals = jax.lax.stop_gradient(self._maps(inputs, label, real))
        ends = [scale[-1] for scale in fakes], [scale[-1] for scale in reals]
        terms = {"gan": adversarial.generator_loss(w.gan, *ends)}
        if w.feature_matching:
            terms["feature_matching"] = w.feature_matching * adversarial.feature_matching(
                reals, fakes
            )
        if self.features.kind != "none" and w.perceptual:
            maps = functools.partial(self.features, inputs.variables.get(FEATURES))
            ready = (inputs.step >= self.features.steps).astype(jnp.float32)
            terms["perceptual"] = ready * w.perceptual * perceptual_loss(maps, made.image, real)
        if made.log_variance is not None:
            terms["kl"] = w.kl * gaussian_kl(made.mean, made.log_variance).sum(-1).mean()
            terms["l1"] = w.l1 * jnp.mean(jnp.abs(made.image - real))
        metrics = {**terms, "diversity": adversarial.relative_diversity(made.image, real)}
        outputs = LossOutputs(jax.lax.stop_gradient(metrics), {GENERATOR: updated})
        return sum(terms.values()), outputs

    def _discriminator_loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        label = one_hot(inputs.batch["label"], self.classes)
        fake = jax.lax.stop_gradient(self._made(inputs, label, update=False)[0].image)
        pairs = jnp.concatenate(
            [jnp.concatenate([label, x], -1) for x in (inputs.batch["image"], fake)]
        )
        variables = inputs.variables[DISCRIMINATOR]
        mutable = [name for name in variables if name != "params"]
        maps, updated = self.discriminator.apply(variables, pairs, update=True, mutable=mutable)
        real, fake = zip(*(jnp.split(scale[-1], 2) for scale in maps))
        value = adversarial.discriminator_loss(self.weights.gan, real, fake)
        accuracy = adversarial.discriminator_accuracy(self.weights.gan, real, fake)
        metrics = {"discriminator_accuracy": accuracy}
        return value, LossOutputs(metrics, {DISCRIMINATOR: updated})

    def _features_loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        variables, batch = inputs.variables[FEATURES], inputs.batch
        loss = self.features.segmentation_loss
        return loss(variables, batch["image"], batch["label"], inputs.step), LossOutputs()
