"""Supervised segmentation with a U-Net: the baseline that every augmentation arm trains.

The recipe is nnU-Net's (Isensee et al., Nature Methods 2021) with the transforms on the device: a
plain or residual U-Net, Dice + cross-entropy, deep supervision, instance norm. Images may be real,
synthesised from the label map within the step (Billot et al., Medical Image Analysis 2023), or a
mixture of both. Mixup makes soft labels; they are carried beside the integer ones. Policies that
mix features are obeyed in the loss.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.feature_mixing import sample_feature_mixup, sample_moment_partners
from jaxmedgen.augment.label_to_image import LabelToImage, default_spatial
from jaxmedgen.augment.mixing import Mixup, one_hot
from jaxmedgen.augment.pairing import take_partners
from jaxmedgen.augment.policy import apply_ramped
from jaxmedgen.augment.presets import configured
from jaxmedgen.augment.sides import Pairs, generation_pairs
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses.segmentation import deep_supervision_loss, dice_ce_loss, dice_loss
from jaxmedgen.nets.moment_exchange import MomentExchange
from jaxmedgen.nets.unet import UNet
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.players import player_settings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Augment, Batch, SubjectAugment, augment_for

PLAYER = "segmenter"


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A segmentation network with its augmentation.

    Attributes:
        net: the U-Net.
        settings: optimiser and weight averaging.
        augmentation: random transform of real (and synthetic) images with their labels.
        synthesis: makes images from label maps, or None.
        synthesis_probability: chance that a sample's image is a synthetic one; 1 needs no images.
        channels: image channels; those of the synthesis where there are no real images.
        ignore_label: label value that counts in no loss, or None.
        target_of: class of each label value, where the labels are finer than the classes.
        moment_exchange: of features in training, or None; the net has its kind.
        feature_mixup: at a random level of the encoder, or None.
        ramp: number of samples over which the share of augmented (and mixed) ones rises from 0 to
            1; 0 starts in full.
    """

    net: UNet
    settings: PlayerSettings
    augmentation: Augment | SubjectAugment
    synthesis: LabelToImage | None = None
    synthesis_probability: float = 0.0
    channels: int = 1
    ignore_label: int | None = None
    target_of: tuple[int, ...] = ()
    moment_exchange: MomentExchange | None = None
    feature_mixup: Mixup | None = None
    ramp: int = 0

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player, the segmenter."""
        return {PLAYER: self.settings}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters for images of the batch's shape."""
        shape = batch["label"].shape if "label" in batch else batch["image"].shape[:-1]
        image = jnp.zeros((1, *shape[1:], self.channels), jnp.float32)
        init_key, run_key = jax.random.split(key)
        variables = self.net.init(init_key, image, train=False)
        return create_state(run_key, {PLAYER: variables}, self.players())

    @property
    def makes_samples(self) -> bool:
        """Whether this configuration synthesises images (`sample`)."""
        return self.synthesis is not None

    def objectives(self) -> tuple[Objective, ...]:
        """Dice + cross-entropy."""
        return (Objective("segmentation", (PLAYER,), self._loss),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Synthesises images where asked to, then augments image and label together."""
        label = batch["label"]
        split = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
        if self.synthesis is None or self.synthesis_probability <= 0:
            return {**batch, **self._augmented(split[:, 0], batch)}
        made, made_label = self.synthesis(split[:, 1], label)
        if made.shape[-1] != self.channels:
            made = jnp.broadcast_to(made, (*made.shape[:-1], self.channels))
        if self.synthesis_probability >= 1:
            return {**batch, "image": made, "label": made_label}
        real = self._augmented(split[:, 0], batch)
        made = {"image": made, "label": made_label}
        if "soft_label" in real:
            made["soft_label"] = one_hot(made_label, self.net.classes)
        chosen = jax.vmap(jax.random.bernoulli, (0, None))(split[:, 2], self.synthesis_probability)
        mixture = jax.tree.map(
            lambda a, b: jnp.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b), made, real
        )
        return {**batch, **mixture}

    def _augmented(self, keys: Key[Array, " b"], batch: Batch) -> Batch:
        label = batch["label"]
        if self.target_of:
            label = jnp.asarray(self.target_of, jnp.int32)[label]
        augment = augment_for(self.augmentation, batch)
        if self.ramp:
            strength = self._strength(batch)
            image, label = apply_ramped(augment, strength, keys, batch["image"], label)
        else:
            image, label = augment(keys, batch["image"], label)
        if not jnp.issubdtype(label.dtype, jnp.floating):
            return {"image": image, "label": label}
        # Integer labels stay for whoever shows samples; unused in the step, they cost nothing.
        return {"image": image, "label": jnp.argmax(label, -1), "soft_label": label}

    def _strength(self, batch: Batch) -> Float[Array, " b"] | float:
        """Share of the samples that are augmented, a function of their place in the run."""
        return jnp.clip(batch["index"] / self.ramp, 0.0, 1.0) if self.ramp else 1.0

    def predict(
        self, variables: PlayerVariables, image: Float[Array, "b *s c"]
    ) -> Float[Array, "b *s k"]:
        """Class probabilities."""
        return jax.nn.softmax(self.net.apply(variables[PLAYER], image, train=False), axis=-1)

    def sample(
        self, variables: PlayerVariables, keys: Key[Array, " b"], label: Int[Array, " b *s"]
    ) -> tuple[Float[Array, "b *s c"], Int[Array, " b *s"]]:
        """Images synthesised from label maps, as the network sees them in training.

        Raises:
            ValueError: this configuration trains on real images only.
        """
        if self.synthesis is None:
            raise ValueError(
                "this configuration synthesises no images: set "
                "--config.augment.synthesis_probability above 0"
            )
        return self.synthesis(keys, label)

    def _loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        variables, batch = inputs.variables[PLAYER], inputs.batch
        label = batch.get("soft_label", batch["label"])
        mixing, partner, strength = {}, None, self._strength(batch)
        if self.moment_exchange is not None:
            partner = sample_moment_partners(self.moment_exchange, inputs.keys, strength)
            mixing["partner"] = partner
        if self.feature_mixup is not None:
            mixup = sample_feature_mixup(
                self.feature_mixup, inputs.keys, inputs.key, len(self.net.features), strength
            )
            mixing["mixup"] = mixup
            if "soft_label" not in batch:
                label = one_hot(label, self.net.classes)
            weight = mixup.weight.reshape(-1, *[1] * (label.ndim - 1))
            label = weight * label + (1 - weight) * take_partners(label, mixup.partner)
        mutable = [name for name in variables if name != "params"]
        logits, updated = self.net.apply(
            variables,
            batch["image"],
            train=True,
            mutable=mutable,
            # The first sample's key: under pmap each device drops other channels.
            rngs={"dropout": inputs.keys[0]},
            **mixing,
        )
        outputs = logits if isinstance(logits, tuple) else (logits,)

        def loss(logits, label):
            return dice_ce_loss(logits, label, ignore_label=self.ignore_label)

        value = deep_supervision_loss(loss, outputs, label)
        if partner is not None and self.moment_exchange.weight < 1:
            own, other = self.moment_exchange.weight, take_partners(label, partner)
            value = own * value + (1 - own) * deep_supervision_loss(loss, outputs, other)
        # Soft, since an argmax over logits would turn rounding into jumps of the logged number.
        soft = 1 - dice_loss(outputs[0], label, ignore_label=self.ignore_label)
        metrics = {"soft_dice": jax.lax.stop_gradient(soft)}
        return value, LossOutputs(metrics=metrics, variables={PLAYER: updated})


def label_to_image(
    settings: Any,
    spacing: tuple[float, ...],
    target_of: tuple[int, ...] = (),
    swap_labels: Pairs = (),
) -> LabelToImage:
    """The generative model of a configuration's ``augment.synthesis`` group.

    Args:
        settings: the group.
        spacing: voxel size in mm.
        target_of: class of each generation label, where these are finer.
        swap_labels: generation labels that a left-right flip exchanges; either has the other's
            contrast.
    """
    ranges = {f.name for f in dataclasses.fields(LabelToImage) if isinstance(f.default, Draw)}
    values = {k: Draw(*v) if k in ranges else v for k, v in dict(settings).items()}
    spatial = dataclasses.replace(default_spatial(spacing), swap_labels=swap_labels)
    return LabelToImage(spacing=spacing, spatial=spatial, target_of=target_of or None, **values)


def build(config: Any, info: DatasetInfo) -> Segmenter:
    """The system of a configuration for a data set.

    Raises:
        ValueError: settings that do not fit the data.
    """
    probability = config.augment.synthesis_probability
    channels = len(info.channel_names) or 1
    if not info.channel_names and probability < 1:
        raise ValueError(
            "the data set has label maps but no images: train on synthetic images "
            "(--config.augment.synthesis_probability=1.0)"
        )
    target_of = tuple(config.data.target_of)
    net = dict(config.net)
    if isinstance(net.get("dtype"), str):
        net["dtype"] = jnp.dtype(net["dtype"])
    policy = configured(config.augment, info.spacing, info.class_names, target_of=target_of)
    ignore_label = None if config.ignore_label < 0 else config.ignore_label
    soft = policy.feature_mixup is not None or (policy.mixing is not None and policy.mixing.soft)
    if soft and ignore_label is not None:
        raise ValueError(
            f"augment.preset={config.augment.preset!r} makes soft labels, which have no "
            f"ignore_label={ignore_label}: choose a policy without mixup"
        )
    exchange = policy.moment_exchange
    synthesis = None
    if probability > 0:
        sides = generation_pairs(config.augment, info.class_names, target_of)
        synthesis = label_to_image(config.augment.synthesis, info.spacing, target_of, sides)
    return Segmenter(
        net=UNet(
            dims=len(info.spacing),
            classes=info.num_classes,
            moment_exchange=None if exchange is None else exchange.kind,
            moment_level=0 if exchange is None else exchange.level,
            **net,
        ),
        settings=player_settings(config.optimizer, config.steps),
        augmentation=policy,
        synthesis=synthesis,
        synthesis_probability=probability,
        channels=channels,
        ignore_label=ignore_label,
        target_of=target_of,
        moment_exchange=exchange,
        feature_mixup=policy.feature_mixup,
        ramp=round(config.augment.get("ramp", 0.0) * config.steps * config.batch_size),
    )
