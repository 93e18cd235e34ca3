"""Sets of images as the measures of realism take them, and the sets that stand beside them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.ndimage
from jaxtyping import Float, Int

from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.data.sources import ArraySource, Source, Standardized
from jaxmedgen.data.splits import patient_of


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images as the measures take them.

    Attributes:
        images: all of one size.
        subjects: of each image: what is resampled together.
        groups: vendor or disease of each image, or empty.
        labels: label maps, or None.
        shown: what networks are shown, where that is not `images`: images before they were
            standardised, for a network that brings them to the scale of its training itself.
    """

    images: Float[np.ndarray, "n *s c"]
    subjects: tuple[str, ...]
    groups: tuple[str, ...] = ()
    labels: Int[np.ndarray, " n *s"] | None = None
    shown: Float[np.ndarray, "n *s c"] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def seen(self) -> Float[np.ndarray, "n *s c"]:
        """The images that networks are shown."""
        return self.images if self.shown is None else self.shown

    def take(self, chosen: Sequence[int] | np.ndarray) -> "ImageSet":
        """Some of the images."""
        return ImageSet(
            self.images[chosen],
            tuple(self.subjects[i] for i in chosen),
            tuple(self.groups[i] for i in chosen) if self.groups else (),
            None if self.labels is None else self.labels[chosen],
            None if self.shown is None else self.shown[chosen],
        )


def image_set(
    source: Source, pattern: str = "", subjects: Mapping[str, str] | None = None
) -> ImageSet:
    """All images of a source.

    Args:
        source: labelled subjects of one size.
        pattern: regular expression of the group in the names of cases, or "".
        subjects: case that an image was made of, where its own name does not tell (synthetic
            images). Images of one patient's cases are resampled together.

    Raises:
        ValueError: images of different sizes.
    """
    names = source.info.case_names
    records = [source[i] for i in range(len(source))]
    shapes = {r["image"].shape for r in records}
    if len(shapes) != 1:
        raise ValueError(
            f"images of sizes {sorted(shapes)[:3]} cannot be compared: give --shape, one for all"
        )
    subjects = subjects or {}
    return ImageSet(
        np.stack([np.asarray(r["image"], np.float32) for r in records]),
        tuple(patient_of(subjects.get(name, name)) for name in names),
        groups_of(names, pattern) if pattern else (),
        np.stack([np.asarray(r["label"], np.int32) for r in records]),
    )


def standardized(images: ImageSet, source: Source, *, keep: bool) -> ImageSet:
    """The set with images of mean 0 and deviation 1.

    Args:
        images: of the source.
        source: that they were read from.
        keep: whether networks are still shown the images as they were.
    """
    made = Standardized(ArraySource([{"image": image} for image in images.images], source.info))
    return dataclasses.replace(
        images,
        images=np.stack([made[i]["image"] for i in range(len(images))]),
        shown=images.images if keep else None,
    )


def ceilings(real: ImageSet, data_range: float | int, seed: int = 0) -> dict[str, ImageSet]:
    """Real images blurred by 1.5 voxels, and pure noise of their mean and deviation."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(real.images.mean(), real.images.std(), real.images.shape)
    low = float(real.images.min())
    noise = np.clip(noise, low, low + data_range).astype(np.float32)
    again = None
    if real.shown is not None:  # the same noise, in the units that networks are shown
        scale = real.shown.std() / max(float(real.images.std()), 1e-6)
        again = real.shown.mean() + scale * (noise - real.images.mean())
    return {
        "blurred real": dataclasses.replace(
            real,
            images=_blurred(real.images),
            shown=None if real.shown is None else _blurred(real.shown),
        ),
        "noise": dataclasses.replace(real, images=noise, shown=again),
    }


def _blurred(images: np.ndarray) -> np.ndarray:
    widths = (0, *(1.5,) * (images.ndim - 2), 0)
    return scipy.ndimage.gaussian_filter(images, widths, mode="nearest")
