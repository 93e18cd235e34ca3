"""The named augmentation policies that configs choose from; ``a+b`` joins two.

================================  ==================================================================
`none`                            nothing
`flip`, `affine`                  mirroring of every axis; rotation, scale, shear, shift, jointly
`elastic`, `elastic_noise`        B-spline grid of 7 points an axis, 7.5 mm; smoothed noise (Simard)
`diffeo`, `geodesic`              diffeomorphisms of a stationary velocity; of a geodesic
`gamma`, `bias`, `companions`     gamma; polynomial bias field; noise, blur, brightness, contrast,
                                  low resolution, additive shift
`mixup`, `manifold_mixup`         of images; of features
`cutout`, `cutmix`, `carvemix`    boxes removed; boxes pasted; lesions pasted
`moex_in`, `moex_pono`            exchange of moments in the network
`deformation`, `intensification`  families: affine + elastic + diffeo; gamma + bias + companions
`corruption`, `interpolation`     families: cutout + cutmix; mixup + manifold_mixup
`nnunet3d` = `classic`            nnU-Net's default policy
`nnunet_brats`                    nnU-Net's strong policy for tumours
`classic_brats`                   the same with a diffeomorphism as elastic deformation
`genseg2d`                        B-spline grid, rotation, zoom, flips, intensity shift; reflected
`intensity`                       mild intensity changes
`light`, `diffeomorphic`          the same, a left-right flip, and a small affine map or `diffeo`
`diffeomorphic_geodesic`          the same with `geodesic`
================================  ==================================================================

`light` and the two `diffeomorphic` ones share the intensity stage and the flip: between them only
the kind of deformation differs. Left-right flips assume that sides run along `left_right_axis`.

Sources: nnU-Net (Isensee et al. 2021), BraTS-tuned variant (Isensee et al. 2020), TorchIO's
conventions for gamma, bias field and B-spline grid, GenSeg. Rotation stays at 30 degrees in 2D,
where nnU-Net takes 180.
"""

import dataclasses
import difflib
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxmedgen.augment.cutout import Cutout
from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.intensity import Intensity
from jaxmedgen.augment.mixing import Cutmix, Mixing, Mixup
from jaxmedgen.augment.outside import Background
from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.sides import swapped_labels
from jaxmedgen.augment.spatial import Spatial
from jaxmedgen.nets.moment_exchange import MomentExchange

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
    shift=Draw(-0.2, 0.2, p=0.3, distribution="normal"),
    contrast=Draw(0.65, 1.5, p=0.15),
    low_resolution=Draw(0.5, 1.0, p=0.25, p_channel=0.5),
    inverted_gamma=Draw(0.5, 1.6, p=0.15),
    gamma=Draw(0.5, 1.6, p=0.3),
)
_COMPANIONS = dataclasses.replace(
    _CLASSIC,
    shift=Draw(-0.2, 0.2, p=0.3, distribution="normal"),
    gamma=None,
    inverted_gamma=None,
)
_INTENSITIES: Mapping[str, Intensity] = {
    "gamma": Intensity(gamma=Draw(math.exp(-0.3), math.exp(0.3), 0.5, distribution="log_uniform")),
    "bias": Intensity(bias=Draw(-0.5, 0.5, p=0.5)),
    "companions": _COMPANIONS,
    "nnunet3d": _CLASSIC,
    "nnunet_brats": _BRATS,
    "classic_brats": _BRATS,
    "genseg2d": Intensity(shift=Draw(-0.1, 0.1)),
    "intensity": _LIGHT,
    "light": _LIGHT,
    "diffeomorphic": _LIGHT,
    "diffeomorphic_geodesic": _LIGHT,
}
_OTHER_STAGES: Mapping[str, Augmentation] = {
    "manifold_mixup": Augmentation(feature_mixup=Mixup()),
    "cutout": Augmentation(cutout=Cutout()),
    "cutmix": Augmentation(mixing=Mixing(cutmix=Cutmix())),
    "moex_in": Augmentation(moment_exchange=MomentExchange("instance", 1.0, 0.5)),
    "moex_pono": Augmentation(moment_exchange=MomentExchange("positional", 0.9, 0.5)),
}
_SYNONYMS: Mapping[str, str] = {
    "classic": "nnunet3d",
    "deformation": "affine+elastic+diffeo",
    "intensification": "gamma+bias+companions",
    "corruption": "cutout+cutmix",
    "interpolation": "mixup+manifold_mixup",
}
_LEFT_RIGHT = ("light", "diffeomorphic", "diffeomorphic_geodesic")
_ALL_AXES = ("flip", "nnunet3d", "nnunet_brats", "classic_brats", "genseg2d")
_MOVES = ("affine", "elastic", "elastic_noise", "diffeo", "geodesic")

_NAMED = (("none",), _LEFT_RIGHT, _ALL_AXES, _MOVES, _INTENSITIES, ("mixup", "carvemix"))
NAMES = tuple(dict.fromkeys(n for part in (*_NAMED, _OTHER_STAGES, _SYNONYMS) for n in part))


def preset(
    name: str,
    spacing: Sequence[float | int],
    *,
    classes: int | None = None,
    flip_axes: Sequence[int] | None = None,
    left_right_axis: int = 0,
    swap_labels: Sequence[tuple[int, int]] = (),
    background: Background = None,
    geodesic_energy: Sequence[float | int] | None = None,
) -> Augmentation:
    """Builds a named policy.

    Args:
        name: one of `NAMES`, or several joined by ``+``.
        spacing: voxel size in mm; its length says whether images are 2D or 3D.
        classes: number of classes, which mixup needs for its soft labels.
        flip_axes: axes to mirror in those policies that flip; by default all in nnU-Net's, GenSeg's
            and `flip`, left-right in others.
        left_right_axis: spatial axis along which left and right lie.
        swap_labels: pairs of labels that change places when an image is mirrored left-right.
        background: value of voxels outside of the head or ``"min"``, see `Augmentation`.
        geodesic_energy: range of the kinetic energy in mm^2 (`deformation.random_geodesic`) of the
            policies that shoot geodesics, in place of their root mean square of 1 to 4 mm.

    Raises:
        ValueError: for an unknown name, joined policies that set the same transform twice, an
            energy for policies without a geodesic, or a background that is none.
    """
    spacing = tuple(float(s) for s in spacing)
    sides = {
        "left_right_axis": left_right_axis,
        "swap_labels": tuple((a, b) for a, b in swap_labels),
    }
    parts = []
    for part in name.split("+"):
        if part not in NAMES:
            near = difflib.get_close_matches(part, NAMES, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"augmentation preset {part!r} is unknown: did you mean {near!r}? "
                f"There are {', '.join(NAMES)}"
            )
        for single in _SYNONYMS.get(part, part).split("+"):
            axes = (left_right_axis,) if single in _LEFT_RIGHT else range(len(spacing))
            if flip_axes is not None:
                axes = flip_axes
            parts.append(_single(single, spacing, classes, tuple(axes), sides))
    joined = functools.reduce(functools.partial(_join, name), parts)
    if geodesic_energy:
        joined = _with_energy(name, joined, geodesic_energy)
    return dataclasses.replace(joined, background=background)


def _single(
    name: str,
    spacing: tuple[float, ...],
    classes: int | None,
    flip_axes: tuple[int, ...],
    sides: Mapping[str, Any],
) -> Augmentation:
    policy = _OTHER_STAGES.get(name, Augmentation())
    if name == "mixup":
        policy = Augmentation(mixing=Mixing(mixup=Mixup(), classes=classes))
    if name == "carvemix":
        policy = Augmentation(mixing=Mixing(cutmix=Cutmix(region="lesion"), spacing=spacing))
    moves = _moves(name, spacing)
    if name in _LEFT_RIGHT or name in _ALL_AXES:
        moves["flip_axes"] = flip_axes
    spatial = Spatial(spacing=spacing, **moves, **sides) if moves else None
    return dataclasses.replace(policy, spatial=spatial, intensity=_INTENSITIES.get(name))


def _moves(name: str, spacing: tuple[float, ...]) -> dict[str, Any]:
    """The spatial stage's settings."""
    if name == "affine":
        return {
            "rotation": Draw(-15, 15),
            "scale": Draw(0.85, 1.15),
            "shear": Draw(-5, 5),
            "translation": Draw(-0.05, 0.05),
            "affine_p": 0.5,
        }
    if name == "elastic":
        return {"elastic": Draw(7.5, 7.5, p=0.5)}
    if name == "elastic_noise":  # nnU-Net: alpha up to 200 in 2D, where smoothing leaves more of it
        return {"elastic_noise": Draw(0, 900 if len(spacing) == 3 else 200, p=0.3)}
    if name in ("diffeo", "diffeomorphic"):
        return {"deformation": Draw(1, 4, p=0.5)}
    if name in ("geodesic", "diffeomorphic_geodesic"):
        return {"geodesic": Draw(1, 4, p=0.5)}
    if name == "light":
        return {"rotation": Draw(-10, 10, p=0.5), "scale": Draw(0.9, 1.1, p=0.5)}
    if name == "nnunet3d":
        return {"rotation": Draw(-30, 30, p=0.2), "scale": Draw(0.7, 1.4, p=0.2)}
    if name == "genseg2d":
        return {
            "rotation": Draw(-3, 3),
            "scale": Draw(0.9, 1.1),
            "elastic": Draw(5 * min(spacing), 5 * min(spacing)),
            "elastic_controls": 6,
            "elastic_locked": 1,
            "elastic_distribution": "normal",
            "border": "reflect",
            "image_order": 0,
        }
    if name in ("nnunet_brats", "classic_brats"):
        flow, nnunet = Draw(1, 4, p=0.3), Draw(0.0, 0.25, p=0.3)
        return {
            "rotation": Draw(-30, 30, p=0.3),
            "scale": Draw(0.65, 1.6, p=0.3),
            **({"deformation": flow} if name == "classic_brats" else {"elastic_relative": nnunet}),
        }
    return {}


def _with_energy(name: str, policy: Augmentation, energy: Sequence[float | int]) -> Augmentation:
    spatial = policy.spatial
    if spatial is None or spatial.geodesic is None:
        raise ValueError(
            f"geodesic_energy={tuple(energy)} for augmentation preset {name!r}, which shoots no "
            "geodesics: use 'geodesic', 'diffeomorphic_geodesic' or a policy joined with them"
        )
    if len(energy) != 2 or not 0 <= energy[0] <= energy[1]:
        raise ValueError(f"geodesic_energy={tuple(energy)}: give (low, high) in mm^2, low first")
    drawn = dataclasses.replace(spatial.geodesic, low=energy[0], high=energy[1])
    spatial = dataclasses.replace(spatial, geodesic=drawn, geodesic_by="energy")
    return dataclasses.replace(policy, spatial=spatial)


def configured(
    settings: Any,
    spacing: Sequence[float | int],
    class_names: Sequence[str],
    *,
    name: str | None = None,
    target_of: Sequence[int] = (),
) -> Augmentation:
    """The policy of a configuration's group ``augment``.

    Args:
        settings: the group; reads `preset`, `background`, `geodesic_energy` and `swap_labels`.
        spacing: voxel size in mm.
        class_names: of the classes that the policy sees; left and right change places with a flip.
        target_of: class of each label value where labels are merged before (``data.target_of``).
        name: in place of ``settings.preset``.

    Raises:
        ValueError: see `preset` and `swapped_labels`.
    """
    return preset(
        name or settings.preset,
        spacing,
        classes=len(class_names),
        swap_labels=swapped_labels(settings, class_names, target_of),
        background=settings.get("background"),
        geodesic_energy=settings.get("geodesic_energy"),
    )


def _join(name: str, first: Any, second: Any) -> Any:
    """Both policies (or both settings of a stage) in one; what only one sets is taken from it."""
    changes = {}
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        default = None if field.default is dataclasses.MISSING else field.default
        if b == default or a == b:
            continue
        if a == default:
            changes[field.name] = b
        elif dataclasses.is_dataclass(a) and not isinstance(a, Draw):
            changes[field.name] = _join(name, a, b)
        else:
            raise ValueError(f"preset {name!r} sets {field.name} twice, as {a} and as {b}")
    return dataclasses.replace(first, **changes)
