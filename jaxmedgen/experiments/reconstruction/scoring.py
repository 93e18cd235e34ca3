"""Scores of volumes built from planes, for every set of views.

Deterministic predictions are thresholded at 0.5 and keep their largest component, in all models
alike. Uncertainty comes from ancestral samples.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxmedgen.data.planes import VIEWS
from jaxmedgen.data.postprocess import keep_largest_component
from jaxmedgen.data.sources import Source
from jaxmedgen.metrics.head import Biometry, head_biometry, relative_volume_difference
from jaxmedgen.metrics.surface_distance import surface_distances
from jaxmedgen.metrics.uncertainty import (
    boundary_band,
    covers,
    error_correlation,
    uncertainty_map,
)
from jaxmedgen.systems.base import CanBuildVolume, CanSampleVolume, PlayerVariables

NESTED = ((0, 1, 2), (0, 1), (0,))
"""Views by how often they are acquired: the sets of the published tables."""
EVERY_SET = tuple(
    views for count in (3, 2, 1) for views in itertools.combinations(range(len(VIEWS)), count)
)
SAMPLES = 50
_VOXELS_AT_ONCE = 2**21


@dataclasses.dataclass(frozen=True)
class VolumeScore:
    """One case and set of views.

    Attributes:
        case: its name.
        dice: at 0.5.
        hd: Hausdorff distance in mm.
        hd95: its 95th percentile.
        rvd: relative volume difference, signed.
        bpd: error of the biparietal diameter in mm, signed.
        ofd: error of the occipitofrontal diameter in mm, signed.
        hc: error of the head circumference in mm, signed.
    """

    case: str
    dice: float
    hd: float
    hd95: float
    rvd: float
    bpd: float
    ofd: float
    hc: float


@dataclasses.dataclass(frozen=True)
class UncertaintyScore:
    """One case and set of views.

    Attributes:
        case: its name.
        total: sum of the uncertainty over voxels.
        band: mean of it near the predicted boundary.
        correlation: Spearman's rho with the absolute error on their support.
        volume: whether the central 90 % of the samples contain the true volume.
        bpd: likewise, the biparietal diameter.
        ofd: likewise, the occipitofrontal diameter.
    """

    case: str
    total: float
    band: float
    correlation: float
    volume: bool
    bpd: bool
    ofd: bool


class Builder:
    """A compiled model with its weights, for arrays on the host."""

    def __init__(self, system: CanBuildVolume, variables: PlayerVariables) -> None:
        """Compiles lazily, at the first case.

        Args:
            system: what builds volumes.
            variables: its weights.
        """
        self.system, self._variables = system, variables
        self._build = jax.jit(system.build_volume)
        self.samples = isinstance(system, CanSampleVolume)
        if self.samples:
            self._draw = jax.jit(self._draws)

    def volumes(
        self, planes: Float[np.ndarray, "b h w v"], available: Float[np.ndarray, "b v"]
    ) -> Float[np.ndarray, "b x y z"]:
        """Probabilities of the likeliest volumes."""
        return np.asarray(self._build(self._variables, planes, available), np.float32)

    def draws(
        self,
        planes: Float[np.ndarray, "h w v"],
        available: Float[np.ndarray, " v"],
        count: int = SAMPLES,
        seed: int = 0,
    ) -> Float[np.ndarray, "n x y z"]:
        """Probabilities of samples of one case.

        Raises:
            ValueError: the system draws no samples.
        """
        if not self.samples:
            raise ValueError("this model is deterministic: it draws no samples")
        voxels = planes.shape[0] ** 3
        chunk = max(1, min(count, _VOXELS_AT_ONCE // voxels))
        parts = []
        for start in range(0, count, chunk):
            # Whole chunks, so that one compilation does for all.
            keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), start), chunk)
            found = self._draw(self._variables, keys, planes, available)
            parts.append(np.asarray(found, np.float32))
        return np.concatenate(parts)[:count]

    def _draws(self, variables, keys, planes, available):
        repeat = [jnp.broadcast_to(x, (keys.shape[0], *x.shape)) for x in (planes, available)]
        return self.system.sample_volume(variables, keys, *repeat)


def availability(views: Sequence[int], given: Float[np.ndarray, "b v"]) -> Float[np.ndarray, "b v"]:
    """Which planes are shown: those of a set of views that there are."""
    mask = np.zeros(given.shape[-1], np.float32)
    mask[list(views)] = 1
    return given * mask


def stacked(source: Source) -> dict[str, np.ndarray]:
    """All cases of a source: ``planes``, ``available`` and ``label``, ``[n, ...]``."""
    records = [source[i] for i in range(len(source))]
    return {key: np.stack([r[key] for r in records]) for key in ("planes", "available", "label")}


def score_source(
    builder: Builder, source: Source, views: Sequence[int], chunk: int = 16
) -> tuple[VolumeScore, ...]:
    """Scores of every case from one set of views."""
    cases, scores = stacked(source), []
    kept = availability(views, cases["available"])
    for start in range(0, len(source), chunk):
        part = slice(start, start + chunk)
        built = builder.volumes(cases["planes"][part], kept[part])
        for i, volume in enumerate(built, start=start):
            scores.append(
                score_volume(
                    source.info.case_names[i],
                    to_mask(volume),
                    cases["label"][i] > 0,
                    source.info.spacing,
                )
            )
    return tuple(scores)


def to_mask(volume: Float[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """The largest component above 0.5."""
    return keep_largest_component((volume > 0.5).astype(np.int32)) > 0


def score_volume(
    case: str,
    mask: Bool[np.ndarray, "x y z"],
    truth: Bool[np.ndarray, "x y z"],
    spacing: Sequence[float | int],
) -> VolumeScore:
    """Scores of one mask; an empty one is as far as the volume's diagonal.

    Raises:
        ValueError: the truth is empty.
    """
    overlap = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    far = math.sqrt(sum((n * s) ** 2 for n, s in zip(mask.shape, spacing)))
    hd = hd95 = far
    if mask.any():
        distances = surface_distances(mask, truth, tuple(spacing))
        hd, hd95 = distances.hausdorff(), distances.hausdorff(95)
    found, true = head_biometry(mask, spacing), head_biometry(truth, spacing)
    return VolumeScore(
        case=case,
        dice=float(overlap),
        hd=float(hd),
        hd95=float(hd95),
        rvd=relative_volume_difference(mask, truth),
        bpd=found.bpd - true.bpd,
        ofd=found.ofd - true.ofd,
        hc=found.hc - true.hc,
    )


def score_uncertainty(
    builder: Builder,
    source: Source,
    views: Sequence[int],
    count: int = SAMPLES,
    seed: int = 0,
) -> tuple[UncertaintyScore, ...]:
    """Samples of every case from one set of views, and how they vary."""
    cases, scores = stacked(source), []
    kept = availability(views, cases["available"])
    spacing = source.info.spacing
    for i, name in enumerate(source.info.case_names):
        drawn = builder.draws(cases["planes"][i], kept[i], count, seed + i)
        built = builder.volumes(cases["planes"][i : i + 1], kept[i : i + 1])[0]
        truth = cases["label"][i] > 0
        spread = uncertainty_map(drawn)
        sizes = [head_biometry(to_mask(volume), spacing) for volume in drawn]
        true = head_biometry(truth, spacing)
        band = boundary_band(to_mask(built))
        scores.append(
            UncertaintyScore(
                case=name,
                total=float(spread.sum()),
                band=float(spread[band].mean()) if band.any() else math.nan,
                correlation=error_correlation(spread, np.abs(built - truth)),
                volume=_covered(sizes, true, "volume"),
                bpd=_covered(sizes, true, "bpd"),
                ofd=_covered(sizes, true, "ofd"),
            )
        )
    return tuple(scores)


def _covered(sizes: Sequence[Biometry], true: Biometry, name: str) -> bool:
    """An empty sample has no size: it covers nothing."""
    values = [getattr(size, name) for size in sizes]
    finite = [v for v in values if not math.isnan(v)]
    return bool(finite) and covers(finite, getattr(true, name))
