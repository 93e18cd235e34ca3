"""Mixing of samples: mixup, cutmix and lesion-shaped cutmix, the last stage of a policy.

A sample's result depends on its own key, its image and its partner's (`pairing.py`). Mixup returns
soft labels ``[b, *s, k]``, whose rows sum to one (to less where an ignore label was); cutmix pastes
image and label alike, so its labels stay integers and need no weights in the loss.

Sources: Zhang et al. 2018 (mixup); Eaton-Rosen et al. 2018 (segmentation of brain tumours with
mixup); Yun et al. 2019 (CutMix); Zhang et al. 2021 (CarveMix).
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxmedgen.augment.cutout import box_mask
from jaxmedgen.augment.draws import fold_keys, uniform_table
from jaxmedgen.augment.pairing import draw_partners, take_partners
from jaxmedgen.augment.spatial import Parameters
from jaxmedgen.ops.distance import signed_distance

Labels = Int[Array, " b *s"] | Float[Array, " b *s k"]


@dataclasses.dataclass(frozen=True)
class Mixup:
    """``w x_A + (1 - w) x_B`` of images and of labels, ``w ~ Beta(alpha, alpha)``.

    Attributes:
        alpha: of the Beta distribution; small numbers mix little.
        p: probability.
        dominant: takes ``max(w, 1 - w)``, so that A weighs at least a half.
    """

    alpha: float | int = 0.4
    p: float | int = 0.5
    dominant: bool = False


@dataclasses.dataclass(frozen=True)
class Cutmix:
    """A region of the partner, image and label, is pasted.

    Attributes:
        alpha: of the Beta distribution of the share that is kept.
        p: probability.
        region: ``box``: of sides ``(1 - w)^(1/n)`` of the image's, anywhere, clipped; ``lesion``:
            where the signed distance d to the partner's lesion is at most t, ``t ~ U(-m/2, 0)`` or
            ``U(0, m)`` by the toss of a coin, m the lesion's depth (CarveMix). A partner without
            lesion gives nothing.
    """

    alpha: float | int = 1.0
    p: float | int = 0.5
    region: Literal["box", "lesion"] = "box"


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Settings of the mixing stage; a sample that draws both is cut-mixed.

    Attributes:
        mixup: or None.
        cutmix: or None.
        classes: number of classes, for mixup's soft labels.
        spacing: voxel size in mm, for lesion-shaped regions.
        lesion_aware: every pair has at least one sample with a lesion.
        lesion_labels: label values of lesions; all above 0 by default.
    """

    mixup: Mixup | None = None
    cutmix: Cutmix | None = None
    classes: int | None = None
    spacing: tuple[float | int, ...] | None = None
    lesion_aware: bool = False
    lesion_labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            setting = getattr(self, name)
            if setting is not None and (not 0 <= setting.p <= 1 or setting.alpha <= 0):
                raise ValueError(
                    f"{name} with alpha {setting.alpha} and p {setting.p}: alpha must be positive "
                    "and p a probability"
                )
        if self.mixup is not None and self.classes is None:
            raise ValueError("mixup makes soft labels: give the number of classes")
        if self.cutmix is not None and self.cutmix.region == "lesion" and self.spacing is None:
            raise ValueError("lesion-shaped cutmix measures distances: give the spacing in mm")

    @property
    def soft(self) -> bool:
        """Whether labels come out soft."""
        return self.mixup is not None


def sample_mixing(settings: Mixing, keys: Key[Array, " b"], axes: int) -> Parameters:
    """Draws what a sample needs besides its partner.

    Returns:
        ``score`` ``[b]`` for the pairing; ``weight`` ``[b]`` of A in mixup (1: not mixed);
        ``share`` ``[b]`` of A in cutmix (1: nothing pasted), ``centre`` ``[b, n]`` of the box,
        ``depth`` ``[b]`` in -1/2..1 of a lesion-shaped region.
    """
    u = uniform_table(keys, 1, 5 + axes)[:, 0]
    parameters: Parameters = {"score": u[:, 0]}
    cut = jnp.zeros(keys.shape, bool)
    if settings.cutmix is not None:
        cut = u[:, 1] < settings.cutmix.p
        share = _beta(fold_keys(keys, 1), settings.cutmix.alpha)
        parameters |= {
            "share": jnp.where(cut, share, 1.0),
            "centre": u[:, 5:],
            "depth": jnp.where(u[:, 3] < 0.5, -0.5 * u[:, 4], u[:, 4]),
        }
    if settings.mixup is not None:
        on = (u[:, 2] < settings.mixup.p) & ~cut
        weight = _beta(fold_keys(keys, 2), settings.mixup.alpha)
        if settings.mixup.dominant:
            weight = jnp.maximum(weight, 1 - weight)
        parameters["weight"] = jnp.where(on, weight, 1.0)
    return parameters


def apply_mixing(
    settings: Mixing,
    parameters: Parameters,
    image: Float[Array, " b *s c"],
    label: Int[Array, " b *s"],
) -> tuple[Float[Array, " b *s c"], Labels]:
    """Mixes each sample of the global batch with its partner."""
    lesion = _lesions(settings, label)
    space = tuple(range(1, label.ndim))
    positive = lesion.any(space) if settings.lesion_aware else None
    partner = draw_partners(parameters["score"], positive)
    other_image, other_label = take_partners(image, partner), take_partners(label, partner)
    pasted_image, pasted_label = image, label
    if settings.cutmix is not None:
        region = _region(settings, parameters, _lesions(settings, other_label))
        pasted_image = jnp.where(region[..., None], other_image, image)
        pasted_label = jnp.where(region, other_label, label)
    if settings.mixup is None:
        return pasted_image, pasted_label
    weight = parameters["weight"].reshape(-1, *(1,) * label.ndim)
    image = jnp.where(
        weight == 1.0, pasted_image, weight * pasted_image + (1 - weight) * other_image
    )
    soft, other = (one_hot(x, settings.classes) for x in (pasted_label, other_label))
    return image, weight * soft + (1 - weight) * other


def one_hot(label: Int[Array, " b *s"], classes: int) -> Float[Array, " b *s k"]:
    """Soft form of integer labels; values that are no class (ignore labels) become zeros."""
    return jax.nn.one_hot(label, classes, dtype=jnp.float32)


def box_region(parameters: Parameters, shape: tuple[int, ...]) -> Bool[Array, " b *s"]:
    """Where cutmix pastes a box; nowhere in samples that are not mixed.

    Args:
        parameters: from `sample_mixing`.
        shape: spatial size.
    """
    on = (parameters["share"] < 1).reshape(-1, *(1,) * len(shape))
    ratio = (1 - parameters["share"]) ** (1 / len(shape))
    sides = ratio[:, None] * jnp.asarray(shape, jnp.float32)
    return box_mask(parameters["centre"], sides, shape) & on


def _region(settings, parameters, lesion) -> Bool[Array, " b *s"]:
    shape = lesion.shape[1:]
    on = (parameters["share"] < 1).reshape(-1, *(1,) * len(shape))
    if settings.cutmix.region == "box":
        return box_region(parameters, shape)
    distance = signed_distance(lesion, spacing=settings.spacing)
    space = tuple(range(1, lesion.ndim))
    deepest = -distance.min(space, keepdims=True)
    threshold = parameters["depth"].reshape(deepest.shape) * deepest
    return (distance <= threshold) & lesion.any(space, keepdims=True) & on


def _lesions(settings, label):
    if not settings.lesion_labels:
        return label > 0
    return jnp.isin(label, jnp.asarray(settings.lesion_labels, label.dtype))


def _beta(keys, alpha):
    return jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)
