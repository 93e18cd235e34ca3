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
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxmedgen.augment.mixing import one_hot
from jaxmedgen.augment.quarter_turns import QuarterTurns
from jaxmedgen.losses import adversarial
from jaxmedgen.losses.perceptual import perceptual_loss
from jaxmedgen.losses.style_diversity import style_diversity
from jaxmedgen.losses.variational import gaussian_kl
from jaxmedgen.nets.discriminators import MultiScaleDiscriminator
from jaxmedgen.nets.synthesizer import Synthesizer
from jaxmedgen.ops.percentiles import scale_intensities
from jaxmedgen.systems.synthesis.feature_maps import FeatureMaps
from jaxmedgen.systems.synthesis.padding import pad_to
from jaxmedgen.systems.synthesis.rendering import GENERATOR, RendersLabels
from jaxmedgen.systems.synthesis.weights import Weights
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Augment, Batch

DISCRIMINATOR, FEATURES = "discriminator", "features"


@dataclasses.dataclass(frozen=True)
class LabelToImageGan(RendersLabels):
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

    def objectives(self) -> tuple[Objective, ...]:
        """Generator, then discriminator; the feature network's segmentation before them."""
        # Spectral norms move on once a step, batch norms see the whole batch.
        adversaries = (
            Objective(GENERATOR, (GENERATOR,), self._generator_loss, whole_batch=True),
            Objective(DISCRIMINATOR, (DISCRIMINATOR,), self._discriminator_loss, whole_batch=True),
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

    def _two_styles(self, inputs, label):
        """Images of the batch's label maps in one drawn style each, and in another."""
        variables, vendor = inputs.variables[GENERATOR], None
        keys = [jax.vmap(lambda key, n=n: jax.random.fold_in(key, n))(inputs.keys) for n in (1, 2)]
        if self.net.vendors:
            vendor = jnp.concatenate([inputs.batch["vendor"]] * 2)
        image, _ = self.net.apply(
            variables,
            jnp.concatenate([label, label]),
            self._noise(jnp.concatenate(keys)),
            vendor,
            True,
            mutable=[name for name in variables if name != "params"],
            method="generate",
        )
        return tuple(jnp.split(image, 2))

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
        if self.net.latent and not self.net.deterministic:
            metrics["style_diversity"] = style_diversity(
                inputs.step, lambda: self._two_styles(inputs, label), inputs.batch["image"]
            )
        return value, LossOutputs(metrics, {DISCRIMINATOR: updated})

    def _features_loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        variables, batch = inputs.variables[FEATURES], inputs.batch
        loss = self.features.segmentation_loss
        return loss(variables, batch["image"], batch["label"], inputs.step), LossOutputs()
