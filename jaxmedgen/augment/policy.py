"""An augmentation policy: the spatial stage, then the intensity stage, on a batch inside the step.

`Augmentation` is what training code calls; `jaxmedgen.augment.presets.preset` builds the usual
ones. Drawing and applying are apart, so that parameters can be logged or replayed.
"""

import dataclasses

from jaxtyping import Array, Float, Int, Key

from jaxmedgen.augment.draws import split_keys
from jaxmedgen.augment.intensity import Intensity, apply_intensity, sample_intensity
from jaxmedgen.augment.spatial import Parameters, Spatial, apply_spatial, sample_spatial


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random transforms of image and label together; a stage left at None does nothing.

    Each sample depends on its own key alone, not on the rest of the batch nor on its sharding.
    """

    spatial: Spatial | None = None
    intensity: Intensity | None = None

    def __call__(
        self,
        keys: Key[Array, " b"],
        image: Float[Array, " b *s c"],
        label: Int[Array, " b *s"],
    ) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
        """Transforms a batch.

        Args:
            keys: one key a sample.
            image: float32 images, z-scored.
            label: class indices; ignore values are kept.

        Returns:
            Image and label of the same shapes and types.
        """
        parameters = self.sample_parameters(keys, image.shape[-1], label.ndim - 1)
        return self.apply(parameters, image, label)

    def sample_parameters(self, keys: Key[Array, " b"], channels: int, axes: int) -> Parameters:
        """Draws the parameters of a batch: ``{"spatial": {...}, "intensity": {...}}``."""
        spatial_keys, intensity_keys = split_keys(keys, 2)
        parameters: Parameters = {}
        if self.spatial is not None:
            parameters["spatial"] = sample_spatial(self.spatial, spatial_keys)
        if self.intensity is not None:
            drawn = sample_intensity(self.intensity, intensity_keys, channels, axes)
            parameters["intensity"] = drawn
        return parameters

    def apply(
        self,
        parameters: Parameters,
        image: Float[Array, " b *s c"],
        label: Int[Array, " b *s"],
    ) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
        """Transforms a batch with given parameters."""
        if self.spatial is not None:
            image, label = apply_spatial(self.spatial, parameters["spatial"], image, label)
        if self.intensity is not None:
            image = apply_intensity(self.intensity, parameters["intensity"], image)
        return image, label
