"""An augmentation policy: its stages in a fixed order, on a batch inside the step.

Spatial, intensity, cutout, mixing; exchange of moments and mixup of features happen inside of the
network, so the policy only carries their settings (`systems/segmentation/unet.py` obeys them).
`Augmentation` is what training code calls; `jaxmedgen.augment.presets.preset` builds the usual
ones. Drawing and applying are apart, so that parameters can be logged or replayed.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxmedgen.augment.cutout import Cutout, apply_cutout, sample_cutout
from jaxmedgen.augment.draws import fold_keys, split_keys
from jaxmedgen.augment.intensity import Intensity, apply_intensity, sample_intensity
from jaxmedgen.augment.mixing import Labels, Mixing, Mixup, apply_mixing, one_hot, sample_mixing
from jaxmedgen.augment.outside import Background, check_background, outside_of
from jaxmedgen.augment.spatial import Parameters, Spatial, apply_spatial, sample_spatial
from jaxmedgen.nets.moment_exchange import MomentExchange
from jaxmedgen.types import Augment


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random transforms of image and label together; a stage left at None does nothing.

    Each sample depends on its own key alone (with mixing: and on its partner), not on its place in
    the batch nor on the batch's sharding. No gradient flows through the parameters.

    Attributes:
        spatial: one resampling.
        intensity: per channel.
        cutout: boxes.
        mixing: of samples of the global batch.
        moment_exchange: for the network.
        feature_mixup: for the network: mixup at a random level of its encoder (manifold mixup,
            Verma et al. 2019).
        background: value of voxels outside of the head in images without air, or ``"min"`` for
            each sample's own lowest, channel by channel (skull-stripped and z-scored, see
            `outside`). They keep it, statistics leave them out, and it fills what comes in from
            beyond the border. None: all voxels count.
    """

    spatial: Spatial | None = None
    intensity: Intensity | None = None
    cutout: Cutout | None = None
    mixing: Mixing | None = None
    moment_exchange: MomentExchange | None = None
    feature_mixup: Mixup | None = None
    background: Background = None

    def __post_init__(self) -> None:
        check_background(self.background)

    def __call__(
        self,
        keys: Key[Array, " b"],
        image: Float[Array, " b *s c"],
        label: Int[Array, " b *s"],
    ) -> tuple[Float[Array, " b *s c"], Labels]:
        """Transforms a batch.

        Args:
            keys: one key a sample.
            image: float32 images, z-scored.
            label: class indices; ignore values are kept.

        Returns:
            Image and label of the same shapes and types; soft labels ``[b, *s, k]`` from mixup.
        """
        parameters = self.sample_parameters(keys, image.shape[-1], label.ndim - 1)
        return self.apply(parameters, image, label)

    def sample_parameters(self, keys: Key[Array, " b"], channels: int, axes: int) -> Parameters:
        """Draws the parameters of a batch: ``{"spatial": {...}, "intensity": {...}, ...}``."""
        spatial_keys, intensity_keys = split_keys(keys, 2)
        parameters: Parameters = {}
        if self.spatial is not None:
            parameters["spatial"] = sample_spatial(self.spatial, spatial_keys)
        if self.intensity is not None:
            drawn = sample_intensity(self.intensity, intensity_keys, channels, axes)
            parameters["intensity"] = drawn
        if self.cutout is not None:
            parameters["cutout"] = sample_cutout(self.cutout, fold_keys(keys, 2), axes)
        if self.mixing is not None:
            parameters["mixing"] = sample_mixing(self.mixing, fold_keys(keys, 3), axes)
        return parameters

    def apply(
        self,
        parameters: Parameters,
        image: Float[Array, " b *s c"],
        label: Int[Array, " b *s"],
    ) -> tuple[Float[Array, " b *s c"], Labels]:
        """Transforms a batch with given parameters."""
        parameters = jax.lax.stop_gradient(parameters)
        # Of the images as they come: noise and blur would hide where air lies.
        outside = outside_of(self.background, image)
        if self.spatial is not None:
            spatial = self.spatial
            if spatial.fill is None and outside is not None:
                spatial = dataclasses.replace(spatial, fill=outside.value)
            image, label = apply_spatial(spatial, parameters["spatial"], image, label)
        if self.intensity is not None:
            mask = None if outside is None else outside.head(image)
            image = apply_intensity(self.intensity, parameters["intensity"], image, mask)
        if self.cutout is not None:
            image, label = apply_cutout(self.cutout, parameters["cutout"], image, label)
        if self.mixing is not None:
            image, label = apply_mixing(self.mixing, parameters["mixing"], image, label)
        return image, label


def apply_ramped(
    augment: Augment,
    strength: Float[Array, " b"],
    keys: Key[Array, " b"],
    image: Float[Array, " b *s c"],
    label: Int[Array, " b *s"],
) -> tuple[Float[Array, " b *s c"], Labels]:
    """A transform for a share of the samples only, as at the beginning of a training.

    Args:
        augment: any transform.
        strength: probability of each sample to be transformed; 0 leaves it as it is.
        keys: one key a sample.
        image: images.
        label: class indices.
    """
    on: Bool[Array, " b"] = jax.vmap(jax.random.bernoulli)(fold_keys(keys, 4), strength)
    moved, moved_label = augment(keys, image, label)
    if jnp.issubdtype(moved_label.dtype, jnp.floating):
        label = one_hot(label, moved_label.shape[-1])

    def choose(a, b):
        return jnp.where(on.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return choose(moved, image), choose(moved_label, label)
