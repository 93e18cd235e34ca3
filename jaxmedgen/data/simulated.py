"""Scans simulated from label maps with a fixed family of contrasts: images for label-only folders.

The generative model is `augment.label_to_image`, without deformation and with mean intensities
that are narrow round those of a family. Two families let a study hold a contrast out between
training and test. Signals are rounded from the order of tissues on 1.5 T and 3 T spin-echo and
gradient-echo images (white > grey > CSF on T1, the reverse on T2); they are illustrative.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.label_to_image import LabelToImage
from jaxmedgen.augment.spatial import Spatial
from jaxmedgen.data.sources import DatasetInfo, Record, Wrapped

FAMILIES: dict[str, dict[str, float]] = {
    "t1": {
        "white_matter": 0.85,
        "cortex": 0.58,
        "lateral_ventricle": 0.15,
        "other_ventricles": 0.15,
        "sulcal_csf": 0.18,
        "thalamus": 0.7,
        "caudate": 0.6,
        "putamen": 0.64,
        "pallidum": 0.76,
        "hippocampus_amygdala": 0.57,
        "accumbens": 0.6,
        "ventral_dc": 0.74,
        "cerebellar_white_matter": 0.82,
        "cerebellar_cortex": 0.56,
        "brain_stem": 0.78,
    },
    "t2": {
        "white_matter": 0.35,
        "cortex": 0.52,
        "lateral_ventricle": 0.95,
        "other_ventricles": 0.95,
        "sulcal_csf": 0.9,
        "thalamus": 0.43,
        "caudate": 0.5,
        "putamen": 0.46,
        "pallidum": 0.3,
        "hippocampus_amygdala": 0.54,
        "accumbens": 0.5,
        "ventral_dc": 0.38,
        "cerebellar_white_matter": 0.36,
        "cerebellar_cortex": 0.52,
        "brain_stem": 0.4,
    },
}
"""Mean signal of each label name; background is air."""

_SPREAD = 0.04


@dataclasses.dataclass(frozen=True)
class SimulatedScans(Wrapped):
    """A label-only source with one simulated image a subject, a function of (seed, index).

    Its class names are those of a family.

    Attributes:
        family: a key of `FAMILIES`.
        seed: of all images.
    """

    family: str
    seed: int = 0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(
                f"unknown contrast family '{self.family}': choose one of {', '.join(FAMILIES)}"
            )
        known = FAMILIES[self.family]
        unknown = [name for name in self.source.info.class_names[1:] if name not in known]
        if unknown:
            raise ValueError(
                f"the contrast family '{self.family}' has no signal for {', '.join(unknown)}: "
                "set data.label_map=freesurfer"
            )

    @property
    def info(self) -> DatasetInfo:
        """The parent's info with the family as the one channel."""
        return dataclasses.replace(self.source.info, channel_names=(self.family,))

    def __getitem__(self, index: int) -> Record:
        record = self.source[index]
        label = record["label"]
        means = [0.02, *(FAMILIES[self.family][n] for n in self.source.info.class_names[1:])]
        model = LabelToImage(
            spacing=self.source.info.spacing,
            spatial=Spatial(self.source.info.spacing),
            labels=len(means),
            contrast_means=tuple((m - _SPREAD, m + _SPREAD) for m in means),
            deviation=(0.02, 0.06),
            background_regions=0,
            strip_probability=1.0,
            bias=Draw(0.0, 0.25),
            gamma=0.1,
            thickness=Draw(1.0, 1.5, p=0.5),
        )
        key = jax.random.fold_in(jax.random.key(self.seed), index)
        image, _ = model(key[None], jnp.asarray(label)[None])
        return {**record, "image": np.asarray(image[0])}
