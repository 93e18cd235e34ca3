"""Segmentation by networks with built-in symmetry: group U-Net, steerable U-Net, and their rivals.

Symmetry can come from the network (`nets/group_unet.py`, `nets/steerable_unet.py`), from training
images turned at random (`augment/group_rotation.py`), or from averaging a plain network over the
group when it predicts (`ops/group_average.py`). Loss: ``0.5 CE + 0.5 (1 - Dice) + 1e-6 sum w^2``,
Dice over the whole batch without background.

Sources: Middleton, Pai, Nielsen, Sommer, "Augmentation of brain MRIs using disentanglement and
neural network expressivity" (talk); Cohen & Welling 2016; Worrall & Brostow 2018; Weiler et al.
2018.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray

from jaxmedgen.augment.draws import split_keys
from jaxmedgen.augment.group_rotation import GroupRotation
from jaxmedgen.augment.policy import Augmentation, apply_ramped
from jaxmedgen.augment.presets import configured
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses.kernel_penalty import kernel_penalty
from jaxmedgen.losses.label_smoothing import smooth_labels
from jaxmedgen.losses.segmentation import dice_ce_loss, dice_loss
from jaxmedgen.nets.group_unet import GroupUNet3D
from jaxmedgen.nets.network_cost import matched_filters
from jaxmedgen.nets.steerable_unet import SteerableUNet
from jaxmedgen.ops.group_average import group_average
from jaxmedgen.ops.groups import Group, check_spacing, point_group
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.segmentation.network_blocks import network_blocks
from jaxmedgen.train.objectives import LossInputs, LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.players import player_settings
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Augment, Batch, SubjectAugment, augment_for

PLAYER = "segmenter"

_TINY = 1e-18
"""Probability from which on a class counts as ruled out."""


@dataclasses.dataclass(frozen=True)
class GroupSegmenter:
    """A segmenter with its symmetry.

    Attributes:
        net: the network.
        settings: optimiser and weight averaging.
        augmentation: random transform of image and label.
        blocks: the network's own random transforms (`network_blocks`), or None.
        rotation: random elements of a group, or None.
        average_over: group that predictions are averaged over, or None.
        average_of: what is averaged over it.
        channels: image channels.
        kernel_reg: factor of the penalty on kernels.
        smoothing: arguments of `smooth_labels`, or None.
        val_samples: passes with dropout that a prediction averages; 1 is one pass without.
        ignore_label: label value that counts in no loss, or None.
        target_of: class of each label value, where the labels are finer than the classes.
        ramp: number of samples over which augmentation sets in; 0 starts in full.
    """

    net: GroupUNet3D | SteerableUNet
    settings: PlayerSettings
    augmentation: Augment | SubjectAugment
    blocks: Augmentation | None = None
    rotation: GroupRotation | None = None
    average_over: Group | None = None
    average_of: Literal["logits", "probabilities"] = "logits"
    channels: int = 1
    kernel_reg: float = 1e-6
    smoothing: Mapping[str, Any] | None = None
    val_samples: int = 1
    ignore_label: int | None = None
    target_of: tuple[int, ...] = ()
    ramp: int = 0

    @property
    def size_multiple(self) -> int:
        """Every axis of an image must be a multiple of this."""
        return self.net.size_multiple

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player, the segmenter."""
        return {PLAYER: self.settings}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """Fresh parameters for images of the batch's shape."""
        shape = batch["label"].shape if "label" in batch else batch["image"].shape[:-1]
        init_key, run_key = jax.random.split(key)
        image = jnp.zeros((1, *shape[1:], self.channels), jnp.float32)
        variables = self.net.init(init_key, image)
        return create_state(run_key, {PLAYER: variables}, self.players())

    def objectives(self) -> tuple[Objective, ...]:
        """Cross-entropy, Dice and the penalty on kernels."""
        return (Objective("segmentation", (PLAYER,), self._loss),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Turns by the group, the network's own transforms, then the policy."""
        image, label = batch["image"], batch["label"]
        if self.target_of:
            label = jnp.asarray(self.target_of, jnp.int32)[label]
        turn_keys, block_keys, keys = split_keys(keys, 3)
        if self.rotation is not None:
            image, label = self.rotation(turn_keys, image, label)
        if self.blocks is not None:
            image, label = self.blocks(block_keys, image, label)
        augment = augment_for(self.augmentation, batch)
        if self.ramp:
            strength = jnp.clip(batch["index"] / self.ramp, 0.0, 1.0)
            image, label = apply_ramped(augment, strength, keys, image, label)
        else:
            image, label = augment(keys, image, label)
        if not jnp.issubdtype(label.dtype, jnp.floating):
            return {**batch, "image": image, "label": label}
        return {**batch, "image": image, "label": jnp.argmax(label, -1), "soft_label": label}

    def predict(
        self, variables: PlayerVariables, image: Float[Array, "b *s c"]
    ) -> Float[Array, "b *s k"]:
        """Class probabilities, averaged over `average_over` and `val_samples` passes.

        Over the group the logits are averaged (with `average_of` the probabilities), over passes
        with dropout the probabilities.
        """

        def network(x):
            if self.val_samples == 1:
                return self._probabilities(variables, x, None)
            # One key for all samples, so that none depends on its place in a batch.
            draws = jax.random.split(jax.random.key(0), self.val_samples)
            keys = jnp.repeat(draws[:, None], x.shape[0], axis=1)
            return jax.lax.map(lambda k: self._probabilities(variables, x, k), keys).mean(0)

        if self.average_over is None:
            return network(image)
        if self.average_of == "probabilities":
            return group_average(network, image, self.average_over)

        def logits(x):
            # Logarithms of probabilities are the logits less one number a voxel, which cancels in
            # the softmax below; averages over dropout have no other logits.
            if self.val_samples == 1:
                return self._logits(variables, x, None)
            return jnp.log(jnp.maximum(network(x), _TINY))

        return jax.nn.softmax(group_average(logits, image, self.average_over), axis=-1)

    def _logits(self, variables, image, keys):
        return self.net.apply(variables[PLAYER], image, False, keys, method="logits")

    def _probabilities(self, variables, image, keys):
        return jax.nn.softmax(self._logits(variables, image, keys), axis=-1)

    def _loss(self, inputs: LossInputs) -> tuple[Float[Array, ""], LossOutputs]:
        variables, batch = inputs.variables[PLAYER], inputs.batch
        label = batch.get("soft_label", batch["label"])
        if self.smoothing is not None and "soft_label" not in batch:
            label = smooth_labels(label, self.net.classes, **self.smoothing)
        mutable = [name for name in variables if name != "params"]
        logits, updated = self.net.apply(
            variables, batch["image"], True, inputs.keys, method="logits", mutable=mutable
        )
        value = 0.5 * dice_ce_loss(logits, label, batch=True, ignore_label=self.ignore_label)
        if getattr(self.net, "trainable", True):
            value = value + kernel_penalty(variables["params"], self.kernel_reg)
        soft = 1 - dice_loss(logits, label, ignore_label=self.ignore_label)
        metrics = {"soft_dice": jax.lax.stop_gradient(soft)}
        return value, LossOutputs(metrics=metrics, variables={PLAYER: updated})


def fitting_group(name: str, spacing: Sequence[float | int], axis: int = -1) -> Group:
    """The group of a name, checked against the voxels; ``trivial`` in 2D is that of the plane.

    Raises:
        ValueError: unknown name, a group of another dimension, or voxels that it does not keep.
    """
    dims = len(spacing)
    group = point_group("p1" if name == "trivial" and dims == 2 else name, axis=axis)
    if group.dim != dims:
        raise ValueError(
            f"group {name} acts on {group.dim}D images, these are {dims}D: "
            + ("take p1, p2, p4 or p4m" if dims == 2 else "take C4, D4, O or another 3D group")
        )
    check_spacing(group, spacing)
    return group


def _network(config: Any, info: DatasetInfo) -> GroupUNet3D | SteerableUNet:
    settings = dict(config.net)
    kind = settings.pop("kind")
    settings.pop("average_over")
    settings.pop("average_of", None)
    if kind == "steerable":
        return SteerableUNet(num_classes=info.num_classes, spacing=info.spacing, **settings)
    if kind != "group":
        raise ValueError(f"config.net.kind={kind!r} must be 'group' or 'steerable'")
    group = fitting_group(settings.pop("group"), info.spacing, settings.pop("axis"))
    if isinstance(settings.get("dtype"), str):
        settings["dtype"] = jnp.dtype(settings["dtype"])
    multiple = settings["max_pool"] ** settings["depth"]
    # Unknown sizes are checked when the network meets its images.
    size = tuple(config.patch_size) or tuple(config.data.shape) or (multiple,) * group.dim
    filters = matched_filters(settings.pop("base_filters"), group, settings.pop("matched"))
    return GroupUNet3D(
        group,
        info.num_classes,
        len(info.channel_names),
        patch_size=size,
        filters=filters,
        spacing=info.spacing,
        **settings,
    )


def build(config: Any, info: DatasetInfo) -> GroupSegmenter:
    """The system of a configuration for a data set.

    Raises:
        ValueError: no images, or settings that do not fit the data.
    """
    if not info.channel_names:
        raise ValueError("the data set has label maps but no images: give images to segment")
    net = _network(config, info)
    target_of = tuple(config.data.target_of)
    policy = configured(config.augment, info.spacing, info.class_names, target_of=target_of)
    if policy.moment_exchange is not None or policy.feature_mixup is not None:
        raise ValueError(
            f"augment.preset={config.augment.preset!r} mixes features, which group networks do not "
            "offer: choose a policy without moex or manifold_mixup"
        )
    ignore_label = None if config.ignore_label < 0 else config.ignore_label
    smoothing = None
    if getattr(net, "label_smoothing", False):
        smoothing = {"neighbours": net.label_smoothing_neighbours, "cut_off": net.cut_off}
    mixes = policy.mixing is not None and policy.mixing.soft
    if ignore_label is not None and (smoothing or mixes):
        raise ValueError(
            f"ignore_label={ignore_label} needs hard labels: switch label smoothing and mixup off"
        )
    rotation, average = config.augment.get("group"), config.net.average_over
    axis = config.net.get("axis", -1)
    blocks = network_blocks(net, info.spacing) if isinstance(net, GroupUNet3D) else None
    if blocks is not None:
        blocks = dataclasses.replace(blocks, background=policy.background)
    average_of = config.net.get("average_of", "logits")
    if average_of not in ("logits", "probabilities"):
        raise ValueError(f"net.average_of='{average_of}': choose logits or probabilities")
    return GroupSegmenter(
        net=net,
        settings=player_settings(config.optimizer, config.steps),
        augmentation=policy,
        blocks=blocks,
        rotation=GroupRotation(fitting_group(rotation, info.spacing, axis)) if rotation else None,
        average_over=fitting_group(average, info.spacing, axis) if average else None,
        average_of=average_of,
        channels=len(info.channel_names),
        kernel_reg=getattr(net, "kernel_reg", 1e-6),
        smoothing=smoothing,
        val_samples=getattr(net, "val_samples", 1),
        ignore_label=ignore_label,
        target_of=target_of,
        ramp=round(config.augment.get("ramp", 0.0) * config.steps * config.batch_size),
    )
