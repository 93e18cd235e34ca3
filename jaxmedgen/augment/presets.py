"""The named augmentation policies that configs choose from.

| name            | spatial                                              | intensity |
|-----------------|------------------------------------------------------|-----------|
| `none`          | -                                                    | -         |
| `affine`        | left-right flip; rotation, scale, shear, translation | -         |
| `intensity`     | -                                                    | light     |
| `light`         | left-right flip; small rotation and scale            | light     |
| `classic`       | nnU-Net: flips, rotation, scale                      | nnU-Net   |
| `classic_brats` | nnU-Net's strong policy for tumours                  | nnU-Net   |
| `diffeomorphic` | left-right flip; random diffeomorphism               | light     |

`diffeomorphic` and `light` share the intensity stage and the flip: between them only the kind of
deformation differs. Left-right flips assume that sides run along `left_right_axis`.

Sources: nnU-Net (Isensee et al. 2021), BraTS-tuned variant (Isensee et al. 2020). Rotation stays at
30 degrees in 2D, where nnU-Net takes 180.
"""

import difflib
from collections.abc import Sequence

from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.intensity import Intensity
from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.spatial import Spatial

NAMES = ("none", "affine", "intensity", "light", "classic", "classic_brats", "diffeomorphic")

_LIGHT = Intensity(
    bias=Draw(-0.2, 0.2, p=0.3),
    noise=Draw(0.0, 0.1, p=0.15),
    brightness=Draw(0.9, 1.1, p=0.15),
    contrast=Draw(0.8, 1.25, p=0.15),
    gamma=Draw(0.8, 1.25, p=0.3),
)
_CLASSIC = Intensity(
    noise=Draw(0.0, 0.1, p=0.1),
    blur=Draw(0.5, 1.0, p=0.2, p_channel=0.5),
    brightness=Draw(0.75, 1.25, p=0.15),
    contrast=Draw(0.75, 1.25, p=0.15),
    low_resolution=Draw(0.5, 1.0, p=0.25, p_channel=0.5),
    inverted_gamma=Draw(0.7, 1.5, p=0.1),
    gamma=Draw(0.7, 1.5, p=0.3),
)
_BRATS = Intensity(
    noise=Draw(0.0, 0.1, p=0.15),
    blur=Draw(0.5, 1.5, p=0.2, p_channel=0.5),
    brightness=Draw(0.7, 1.3, p=0.15),
    shift=Draw(-0.35, 0.35, p=0.3),  # the variance of N(0, 0.2^2)
    contrast=Draw(0.65, 1.5, p=0.15),
    low_resolution=Draw(0.5, 1.0, p=0.25, p_channel=0.5),
    inverted_gamma=Draw(0.5, 1.6, p=0.15),
    gamma=Draw(0.5, 1.6, p=0.3),
)


def preset(
    name: str,
    spacing: Sequence[float | int],
    *,
    flip_axes: Sequence[int] | None = None,
    left_right_axis: int = 0,
    swap_labels: Sequence[tuple[int, int]] = (),
) -> Augmentation:
    """Builds a named policy.

    Args:
        name: one of `NAMES`.
        spacing: voxel size in mm; its length says whether images are 2D or 3D.
        flip_axes: axes to mirror; by default all in the nnU-Net policies, left-right in others.
        left_right_axis: spatial axis along which left and right lie.
        swap_labels: pairs of labels that change places when an image is mirrored left-right.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"augmentation preset {name!r} is unknown: did you mean {near!r}? "
            f"There are {', '.join(NAMES)}"
        )
    spacing = tuple(float(s) for s in spacing)
    if flip_axes is None:
        nnunet = name.startswith("classic")
        flip_axes = range(len(spacing)) if nnunet else (left_right_axis,)

    def spatial(**draws: Draw) -> Spatial:
        return Spatial(
            spacing=spacing,
            flip_axes=tuple(flip_axes),
            left_right_axis=left_right_axis,
            swap_labels=tuple((a, b) for a, b in swap_labels),
            **draws,
        )

    if name == "none":
        return Augmentation()
    if name == "intensity":
        return Augmentation(None, _LIGHT)
    if name == "affine":
        moves = spatial(
            rotation=Draw(-15, 15, p=0.5),
            scale=Draw(0.85, 1.15, p=0.5),
            shear=Draw(-5, 5, p=0.5),
            translation=Draw(-0.05, 0.05, p=0.5),
        )
        return Augmentation(moves, None)
    if name == "light":
        return Augmentation(
            spatial(rotation=Draw(-10, 10, p=0.5), scale=Draw(0.9, 1.1, p=0.5)), _LIGHT
        )
    if name == "diffeomorphic":
        return Augmentation(spatial(deformation=Draw(1, 4, p=0.5)), _LIGHT)
    if name == "classic":
        return Augmentation(
            spatial(rotation=Draw(-30, 30, p=0.2), scale=Draw(0.7, 1.4, p=0.2)), _CLASSIC
        )
    moves = spatial(
        rotation=Draw(-30, 30, p=0.3),
        scale=Draw(0.65, 1.6, p=0.3),
        deformation=Draw(1, 4, p=0.3),
    )
    return Augmentation(moves, _BRATS)
