"""Random patches of a subject, with foreground oversampling.

Medical volumes are mostly background: drawn uniformly, most patches show no organ at all. nnU-Net
(Isensee et al., Nature Methods 2021, supplementary note 4.6) therefore centres a third of the
patches on a voxel of a foreground class drawn uniformly among those present. Here each patch is
centred so with probability `foreground_probability`, independently, so that the share holds for
any batch size.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from jaxmedgen.data.sources import Record

ClassLocations = Mapping[int, np.ndarray]
"""Per foreground class present, flat voxel indices (int64, C order), at most `limit` of them."""


def class_locations(label: Int[np.ndarray, "*s"], limit: int = 2048) -> ClassLocations:
    """Where each foreground class lies, so that patches need not search the volume each time.

    Args:
        label: label map, 0 = background.
        limit: voxels kept a class. Larger classes are thinned to an even subset in voxel order,
            which keeps every end of the organ represented.

    Returns:
        Flat indices for each class present; empty without foreground.
    """
    flat = np.asarray(label).reshape(-1)
    foreground = np.flatnonzero(flat > 0)
    values = flat[foreground]
    order = np.argsort(values, kind="stable")
    classes, starts = np.unique(values[order], return_index=True)
    locations = {}
    for value, members in zip(classes, np.split(foreground[order], starts[1:])):
        if len(members) > limit:
            members = members[np.linspace(0, len(members) - 1, limit).astype(np.int64)]
        locations[int(value)] = members
    return locations


def patch_start(
    shape: Sequence[int],
    size: Sequence[int],
    rng: np.random.Generator,
    *,
    foreground_probability: float = 0.0,
    locations: ClassLocations | None = None,
) -> tuple[int, ...]:
    """First voxel of a random patch; negative where the volume is smaller than the patch.

    The number of draws taken from `rng` does not depend on the outcome.

    Args:
        shape: spatial shape of the volume.
        size: spatial shape of the patch.
        rng: random generator.
        foreground_probability: chance that the patch is centred on foreground.
        locations: from `class_locations`; needed for the centring.

    Returns:
        One start index an axis. A patch near the border is moved inside, so a foreground voxel is
        in the patch but not always in its middle. On an axis shorter than the patch the volume is
        centred (start <= 0).
    """
    choice, pick_class, pick_voxel = rng.random(3)
    uniform = rng.random(len(shape))
    room = [n - k for n, k in zip(shape, size)]
    if locations and choice < foreground_probability:
        classes = sorted(locations)
        members = locations[classes[int(pick_class * len(classes))]]
        centre = np.unravel_index(members[int(pick_voxel * len(members))], tuple(shape))
        wanted = [int(c) - k // 2 for c, k in zip(centre, size)]
    else:
        wanted = [int(u * (r + 1)) for u, r in zip(uniform, room)]
    return tuple(min(max(w, 0), r) if r >= 0 else -((-r) // 2) for w, r in zip(wanted, room))


def extract_patch(
    array: np.ndarray, start: Sequence[int], size: Sequence[int], fill: np.ndarray | float | int = 0
) -> np.ndarray:
    """A copy of `array[start : start + size]` on the leading axes, `fill` outside the volume.

    Args:
        array: `[*space, ...]`; may be memory mapped, only the patch is read.
        start: first voxel, may be negative.
        size: patch shape.
        fill: value of voxels outside, broadcast against the trailing axes.

    Returns:
        `[*size, ...]`, C contiguous, of the same dtype.
    """
    inside = tuple(
        slice(max(a, 0), min(a + k, n)) for a, k, n in zip(start, size, array.shape[: len(size)])
    )
    if all(s.stop - s.start == k for s, k in zip(inside, size)):
        return np.array(array[inside], order="C", subok=False)
    out = np.empty((*size, *array.shape[len(size) :]), array.dtype)
    out[...] = fill
    target = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, start))
    out[target] = array[inside]
    return out


def random_patch(
    record: Record,
    size: Sequence[int],
    rng: np.random.Generator,
    *,
    foreground_probability: float = 0.33,
    locations: ClassLocations | None = None,
) -> dict[str, np.ndarray]:
    """The same random patch of every array of a subject.

    Args:
        record: `image` `[*space, c]` and/or `label` `[*space]`; `spacing` is left out.
        size: patch shape in voxels.
        rng: random generator; equal generators give equal patches.
        foreground_probability: chance that the patch is centred on a voxel of a foreground class
            drawn uniformly among those present.
        locations: `class_locations(record["label"])` where the caller keeps it; computed here
            otherwise.

    Returns:
        Copies of shape `[*size, c]` and `[*size]`. Outside the volume an image takes its channel's
        lowest value (air, or the scanner's empty background) and a label takes 0.

    Raises:
        ValueError: `size` has the wrong number of axes, or a probability is outside [0, 1].
    """
    shape = spatial_shape(record)
    if len(size) != len(shape) or any(k < 1 for k in size):
        raise ValueError(f"patch size {tuple(size)} does not fit volumes of shape {shape}")
    if not 0.0 <= foreground_probability <= 1.0:
        raise ValueError(f"foreground_probability {foreground_probability} is outside [0, 1]")
    if locations is None and foreground_probability > 0 and "label" in record:
        locations = class_locations(record["label"])
    start = patch_start(
        shape, size, rng, foreground_probability=foreground_probability, locations=locations
    )
    padded = any(n < k for n, k in zip(shape, size))
    patch = {}
    for name, array in record.items():
        if name == "spacing":  # a number an axis, nothing to cut
            continue
        spatial = tuple(range(len(shape)))
        fill = array.min(axis=spatial) if padded and name == "image" else 0
        patch[name] = extract_patch(array, start, size, fill)
    return patch


def spatial_shape(record: Record) -> tuple[int, ...]:
    """Spatial shape of a subject, from its label or else from its image.

    Raises:
        ValueError: the record has neither.
    """
    if "label" in record:
        return tuple(record["label"].shape)
    if "image" in record:
        return tuple(record["image"].shape[:-1])
    raise ValueError(f"a record needs 'image' or 'label', got {sorted(record)}")
