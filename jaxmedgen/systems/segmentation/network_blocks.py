"""Random transforms of training images that a group U-Net's own constructor asks for."""

from collections.abc import Sequence
from typing import Any

from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.intensity import Intensity
from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.spatial import Spatial
from jaxmedgen.nets.group_unet import GroupUNet3D


def network_blocks(net: GroupUNet3D, spacing: Sequence[float | int]) -> Augmentation | None:
    """The random transforms that the constructor of `GroupUNet3D` asks for.

    Args:
        net: its `rotation_params`, `blur_params` and `transform_params` count.
        spacing: voxel size in mm.

    Raises:
        ValueError: an unknown kind of transform.
    """
    moves: dict[str, Any] = {}
    on, *rest = net.rotation_params
    if on:
        degrees = rest[0] if rest else 15
        moves["rotation"] = Draw(-degrees, degrees)
    on, *rest = net.transform_params
    if on:
        kind, strength = (*rest, *("affine", 1.0)[len(rest) :])
        if kind == "affine":
            moves["scale"] = Draw(1 - 0.15 * strength, 1 + 0.15 * strength)
            moves["shear"] = Draw(-5 * strength, 5 * strength)
            moves["translation"] = Draw(-0.05 * strength, 0.05 * strength)
        elif kind in ("elastic", "diffeo"):
            largest = 7.5 * strength if kind == "elastic" else 4 * strength
            moves["elastic" if kind == "elastic" else "deformation"] = Draw(0, largest)
        else:
            raise ValueError(
                f"transform_params kind {kind!r} must be 'affine', 'elastic' or 'diffeo'"
            )
    on, *rest = net.blur_params
    blur = Draw(*(*rest, *(0.0, 1.0)[len(rest) :])) if on else None
    if not moves and blur is None:
        return None
    return Augmentation(
        spatial=Spatial(spacing=tuple(spacing), **moves) if moves else None,
        intensity=None if blur is None else Intensity(blur=blur),
    )
