"""Supervised segmentation with a U-Net: the baseline that every augmentation arm trains.

The recipe is nnU-Net's (Isensee et al., Nature Methods 2021) with the transforms on the device: a
plain or residual U-Net, Dice + cross-entropy, deep supervision, instance norm. Images may be real,
synthesised from the label map within the step (Billot et al., Medical Image Analysis 2023), or a
mixture of both.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.label_to_image import LabelToImage
from jaxmedgen.augment.presets import preset
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses.segmentation import deep_supervision_loss, dice_ce_loss, dice_loss
from jaxmedgen.nets.unet import UNet
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.optim import optimizer, schedule
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Augment, Batch

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
    """

    net: UNet
    settings: PlayerSettings
    augmentation: Augment
    synthesis: LabelToImage | None = None
    synthesis_probability: float = 0.0
    channels: int = 1
    ignore_label: int | None = None
    target_of: tuple[int, ...] = ()

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
        chosen = jax.vmap(jax.random.bernoulli, (0, None))(split[:, 2], self.synthesis_probability)
        expand = chosen.reshape(-1, *[1] * (label.ndim - 1))
        return {
            **batch,
            "image": jnp.where(expand[..., None], made, real["image"]),
            "label": jnp.where(expand, made_label, real["label"]),
        }

    def _augmented(self, keys: Key[Array, " b"], batch: Batch) -> Batch:
        label = batch["label"]
        if self.target_of:
            label = jnp.asarray(self.target_of, jnp.int32)[label]
        image, label = self.augmentation(keys, batch["image"], label)
        return {"image": image, "label": label}

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
        variables, label = inputs.variables[PLAYER], inputs.batch["label"]
        mutable = [name for name in variables if name != "params"]
        logits, updated = self.net.apply(
            variables,
            inputs.batch["image"],
            train=True,
            mutable=mutable,
            # The first sample's key: under pmap each device drops other channels.
            rngs={"dropout": inputs.keys[0]},
        )
        outputs = logits if isinstance(logits, tuple) else (logits,)

        def loss(logits, label):
            return dice_ce_loss(logits, label, ignore_label=self.ignore_label)

        value = deep_supervision_loss(loss, outputs, label)
        # Soft, since an argmax over logits would turn rounding into jumps of the logged number.
        soft = 1 - dice_loss(outputs[0], label, ignore_label=self.ignore_label)
        metrics = {"soft_dice": jax.lax.stop_gradient(soft)}
        return value, LossOutputs(metrics=metrics, variables={PLAYER: updated})


def label_to_image(
    settings: Any, spacing: tuple[float, ...], target_of: tuple[int, ...] = ()
) -> LabelToImage:
    """The generative model of a configuration's ``augment.synthesis`` group."""
    ranges = {f.name for f in dataclasses.fields(LabelToImage) if isinstance(f.default, Draw)}
    values = {k: Draw(*v) if k in ranges else v for k, v in dict(settings).items()}
    return LabelToImage(spacing=spacing, target_of=target_of or None, **values)


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
    rate = config.optimizer
    net = dict(config.net)
    if isinstance(net.get("dtype"), str):
        net["dtype"] = jnp.dtype(net["dtype"])
    return Segmenter(
        net=UNet(dims=len(info.spacing), classes=info.num_classes, **net),
        settings=PlayerSettings(
            optimizer(
                rate.kind,
                schedule(rate.schedule, rate.learning_rate, config.steps, rate.warmup),
                clip_norm=rate.clip_norm or None,
                weight_decay=rate.weight_decay,
            ),
            ema_decay=rate.ema_decay or None,
        ),
        augmentation=preset(config.augment.preset, info.spacing),
        synthesis=None
        if probability <= 0
        else label_to_image(config.augment.synthesis, info.spacing, target_of),
        synthesis_probability=probability,
        channels=channels,
        ignore_label=None if config.ignore_label < 0 else config.ignore_label,
        target_of=target_of,
    )
