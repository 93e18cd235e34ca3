"""Slices of brains, one hemisphere each, with and without a lesion: BraTS as GenSeg takes it.

Axial slices are split at the mid-sagittal plane; odd widths share the middle column. Hemispheres
with enough lesion are images with a finding, those without a lesion voxel images without one, so
that both come from the same patients; the others are left out. Source: Vorontsov et al., arXiv
1904.01636. A patient's slices are all in one part of the split if subjects are split first, as
`hemisphere_parts` does.

Bias fields are corrected, if wanted, by N4 with a mask of the brain. Taking the segmentation for
that mask, as the published code does, tells where the lesion is.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from jaxmedgen.data.bias_field import without_bias_field
from jaxmedgen.data.semi_labelled import semi_labelled
from jaxmedgen.data.sources import ArraySource, DatasetInfo, Source
from jaxmedgen.data.unpaired import Origin, Pairs, Unpaired

_RIM = 0.05  # of the brain's voxels, where a resampled volume rings below 0
_RINGING = 0.01  # of the brightest difference from the background
_WIDTH = 5.0  # standard deviations of the brain that become 1


@dataclasses.dataclass(frozen=True)
class HemisphereSettings:
    """How slices are chosen and scaled.

    Attributes:
        finding: label values that are the lesion, merged; () takes the last class.
        sick: least share of the brain that the lesion of an image with a finding has.
        brain: least share of the image that the brain has.
        channelwise: scales every channel by its own mean and deviation; False, as published, takes
            one for all.
        bias_field: corrects bias fields first; intensities must be raw ones, and positive.
    """

    finding: tuple[int, ...] = ()
    sick: float | int = 0.01
    brain: float | int = 0.25
    channelwise: bool = False
    bias_field: bool = False


def hemispheres(source: Source, settings: HemisphereSettings) -> Unpaired:
    """All hemispheres that can be used, with and without a finding, named PATIENT_zSLICE_SIDE.

    SIDE is the patient's, L or R. ``place`` of those with a finding is the slice's height in its
    volume, from 0 to 1; ``spacing`` is that of rows and columns, where the volume has its own.

    Args:
        source: volumes ``[x, y, z, c]`` (from left to right, to anterior, to superior) with label
            maps; whatever is not brain has the value of the first corner.
        settings: how to choose.

    Raises:
        ValueError: images of less than three axes, or a label value that is no class.
    """
    finding = finding_of(source.info, settings)
    present, absent, names, places = [], [], [], []
    for number, case in enumerate(source.info.case_names):
        record = source[number]
        image, label = np.asarray(record["image"]), np.isin(record["label"], finding)
        if label.ndim != 3:
            raise ValueError(f"subject {case} has {label.ndim} axes: hemispheres need volumes")
        image, brain, _ = scaled_brain(image, settings)
        own = {"spacing": record["spacing"][[1, 0]]} if "spacing" in record else {}
        for z in range(label.shape[2]):
            place = np.float32(z / max(label.shape[2] - 1, 1))
            for side, columns in zip("LR", halves(label.shape[0])):  # RAS+: x 0 is the left
                inside, lesion = brain[columns, :, z], label[columns, :, z]
                if inside.mean() <= settings.brain:
                    continue
                share = lesion.sum() / inside.sum()
                picture = np.ascontiguousarray(image[columns, :, z].swapaxes(0, 1))
                if share > settings.sick:
                    mask = np.ascontiguousarray(lesion.T).astype(np.int32)
                    present.append({"image": picture, "label": mask, "place": place, **own})
                    names.append(f"{case}_z{z:03d}_{side}")
                elif share == 0:
                    absent.append(picture)
                    places.append(float(place))
    return Unpaired(tuple(present), tuple(absent), tuple(names), tuple(places))


def finding_of(info: DatasetInfo, settings: HemisphereSettings) -> tuple[int, ...]:
    """The label values of volumes that are the finding.

    Raises:
        ValueError: one of them is no foreground class.
    """
    finding = tuple(settings.finding) or (info.num_classes - 1,)
    if any(not 0 < k < info.num_classes for k in finding):
        raise ValueError(
            f"finding={finding}: the data set's foreground classes are 1..{info.num_classes - 1}"
        )
    return finding


def scaled_brain(
    image: Float[np.ndarray, "x y z c"], settings: HemisphereSettings
) -> tuple[
    Float[np.ndarray, "x y z c"], Bool[np.ndarray, "x y z"], tuple[np.ndarray, np.ndarray] | None
]:
    """A volume as its slices are shown, its brain, and ``(shift, scale)`` of the intensities.

    The brain is what differs from the first corner in some channel by more than a hundredth of the
    brightest: splines of a resampled volume ring a little around it. Shift and scale, for
    ``shown * scale + shift``, are None where bias fields were corrected.

    Raises:
        ValueError: a volume without a brain.
    """
    difference = np.abs(image - image[:1, :1, :1])
    brain = (difference > _RINGING * difference.max((0, 1, 2))).any(-1)
    if settings.bias_field:
        below = brain & (image <= 0).any(-1)
        if below.sum() < _RIM * brain.sum():  # more are no rim: the correction says so
            brain &= ~below
        image = without_bias_field(image, brain)
    if not brain.any():
        raise ValueError("a volume is constant: hemispheres need brain-extracted scans")
    shift, scale = brain_scale(image, brain, channelwise=settings.channelwise)
    shown = normalised(image, brain, channelwise=settings.channelwise)
    return shown, brain, None if settings.bias_field else (shift, scale)


def halves(width: int) -> tuple[slice, slice]:
    """Columns of the left and the right (RAS+); of an odd number both have the middle one."""
    return slice(0, (width + 1) // 2), slice(width // 2, width)


def normalised(
    image: Float[np.ndarray, "*s c"], brain: Bool[np.ndarray, "*s"], *, channelwise: bool = False
) -> Float[np.ndarray, "*s c"]:
    """``(x - mean) / (5 std)`` of the brain, 0 around it.

    Args:
        image: intensities.
        brain: where the brain is.
        channelwise: mean and deviation of each channel, not of all jointly.
    """
    mean, width = brain_scale(image, brain, channelwise=channelwise)
    return np.where(brain[..., None], (image - mean) / width, 0.0).astype(np.float32)


def brain_scale(
    image: Float[np.ndarray, "*s c"], brain: Bool[np.ndarray, "*s"], *, channelwise: bool = False
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """``(mean, 5 std)`` of the brain, of all channels jointly or of each."""
    values = image[brain].astype(np.float64)
    axes = 0 if channelwise else None
    width = _WIDTH * np.maximum(values.std(axes), 1e-6)
    return np.asarray(values.mean(axes)), np.asarray(width)


def hemisphere_subjects(data: Any) -> ConfigDict:
    """The ``data`` group for the volumes that slices of ``data.shape`` are cut from.

    Raises:
        ValueError: the volumes' hemispheres do not have that shape, or a folder's scans would be
            scaled twice, first each channel by itself.
    """
    if data.folder and data.normalization != "none":
        raise ValueError(
            f"data.normalization={data.normalization} scales each channel by itself before "
            "hemispheres are scaled: set data.normalization=none (data.channelwise=True scales "
            "each channel by its own mean and deviation)"
        )
    volume = tuple(data.volume)
    if len(volume) != 3 or tuple(data.shape) != (volume[1], (volume[0] + 1) // 2):
        raise ValueError(
            f"data.volume={volume} gives hemispheres of {(*volume[1:2], (volume[0] + 1) // 2)}, "
            f"data.shape is {tuple(data.shape)}: give three axes that fit"
        )
    group = ConfigDict(data.to_dict()).unlock()
    group.shape, group.skull = volume, False
    return group


def hemisphere_settings(data: Any) -> HemisphereSettings:
    """Those of a configuration's ``data`` group."""
    return HemisphereSettings(
        tuple(data.finding), data.sick, data.brain, data.channelwise, data.bias_field
    )


def sick_slices(source: Source, settings: HemisphereSettings) -> tuple[Unpaired, DatasetInfo]:
    """All hemispheres that can be used, and what the data set of those with a finding is."""
    found = hemispheres(source, settings)
    return found, dataclasses.replace(
        source.info,
        class_names=("background", "lesion"),
        spacing=(source.info.spacing[1], source.info.spacing[0]),
        case_names=found.names,
    )


def hemisphere_parts(
    data: Any, subjects: Sequence[Source], origin: Origin | None = None
) -> tuple[Source, Source, Source]:
    """Training pairs, validation and test slices with a finding, of subjects split already.

    Whole patients keep their masks, up to about a share ``data.labelled`` of the slices.

    Args:
        data: a configuration's ``data`` group.
        subjects: training, validation and test subjects.
        origin: how new volumes are cut likewise, where that is wanted.

    Raises:
        ValueError: there are no images of one kind to train on.
    """
    settings, parts = hemisphere_settings(data), []
    for number, source in enumerate(subjects):
        found, info = sick_slices(source, settings)
        if number == 0:
            if not found.present or not found.absent:
                raise ValueError(
                    f"{len(found.present)} hemispheres with a lesion and {len(found.absent)} "
                    "without: both are needed; lower data.sick or data.brain, or add subjects"
                )
            pairs = Pairs(found, info, origin)
            parts.append(
                semi_labelled(pairs, data.labelled, seed=data.seed, patient=patient_of_slice)
            )
        else:
            parts.append(ArraySource(found.present, info))
    return tuple(parts)


def patient_of_slice(name: str) -> str:
    """The patient of a slice's name."""
    return name.rsplit("_z", 1)[0]
