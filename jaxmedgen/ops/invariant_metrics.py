"""Inner products on velocity fields, given by the spectrum of their operator L (or K = 1/L).

`sobolev.py` applies them. All are invariant under translation, on a periodic grid.

Sources: Beg et al., "Computing large deformation metric mappings", 2005; Christensen et al.,
"Deformable templates using large deformation kinematics", 1996 (fluid operator); Risser et al.,
"Simultaneous multi-scale registration", 2011 (sums of Gaussians).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

Terms = Sequence[np.ndarray]


@runtime_checkable
class Metric(Protocol):
    """Spectrum of an inner product on velocity fields; hashable, so that it can be static."""

    @property
    def spacing(self) -> tuple[float | int, ...] | None:
        """Voxel size in mm, None for voxel units."""

    @property
    def coupled(self) -> bool:
        """Whether components are mixed."""

    def kernel(
        self, angles: Terms, power: float | int, dtype: DTypeLike
    ) -> tuple[jax.Array, jax.Array | None]:
        """Eigenvalues of ``K^power`` across and (if coupled) along the gradient direction.

        Args:
            angles: ``2 pi k / N`` of every axis in (-pi, pi], shaped to broadcast.
            power: 1 for K, -1 for L, 1/2 and -1/2 for their roots.
            dtype: of the result.
        """


@dataclasses.dataclass(frozen=True)
class SobolevMetric:
    """``L = (-alpha Laplacian - beta grad div + gamma)^power``, finite differences.

    Its inner product is an H^power norm. Flows are C^1 for ``power > d/2 + 1``: 3 in 3D.

    Attributes:
        alpha: weight of the Laplacian, in squared units of `spacing`.
        gamma: weight of the field itself.
        power: exponent c.
        beta: weight of the fluid term, which couples the components.
        spacing: voxel size in mm; None for voxel units.
    """

    alpha: float | int = 3.0
    gamma: float | int = 1.0
    power: float | int = 3
    beta: float | int = 0.0
    spacing: tuple[float | int, ...] | None = None

    def __post_init__(self) -> None:
        if self.alpha <= 0 or self.gamma <= 0 or self.power <= 0 or self.beta < 0:
            raise ValueError(
                f"SobolevMetric: alpha {self.alpha}, gamma {self.gamma}, power {self.power} must "
                f"be positive and beta {self.beta} not negative, otherwise L cannot be inverted"
            )
        _check_spacing(self.spacing)

    @property
    def coupled(self) -> bool:
        """Whether components are mixed."""
        return self.beta > 0

    def kernel(
        self, angles: Terms, power: float | int, dtype: DTypeLike
    ) -> tuple[jax.Array, jax.Array | None]:
        """See `Metric.kernel`."""
        h = self.spacing or (1.0,) * len(angles)
        laplacian = _outer_sum([2 * (1 - np.cos(a)) / s**2 for a, s in zip(angles, h)], dtype)
        across = self.alpha * laplacian + self.gamma
        exponent = -power * self.power
        if not self.coupled:
            return _power(across, exponent), None
        divergence = _outer_sum([(np.sin(a) / s) ** 2 for a, s in zip(angles, h)], dtype)
        along = across + self.beta * divergence
        return _power(across, exponent), _power(along, exponent)


@dataclasses.dataclass(frozen=True)
class GaussianMetric:
    """``K = sum_i w_i exp(-s_i^2 |omega|^2 / 2)``, a sum of Gaussian kernels.

    Its inverse L amplifies high frequencies without bound, so it is never formed: shoot from a
    momentum.

    Attributes:
        sigma: standard deviations of the kernels in units of `spacing`.
        weight: of each kernel; None for equal weights that sum to 1.
        spacing: voxel size in mm; None for voxel units.
    """

    sigma: tuple[float | int, ...]
    weight: tuple[float | int, ...] | None = None
    spacing: tuple[float | int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.sigma or min(self.sigma) <= 0:
            raise ValueError(f"GaussianMetric: sigma {self.sigma} must be positive widths")
        if self.weight is not None and (
            len(self.weight) != len(self.sigma) or min(self.weight) <= 0
        ):
            raise ValueError(
                f"GaussianMetric: weight {self.weight} must be one positive number for each of "
                f"the {len(self.sigma)} widths"
            )
        _check_spacing(self.spacing)

    @property
    def coupled(self) -> bool:
        """Whether components are mixed."""
        return False

    def kernel(
        self, angles: Terms, power: float | int, dtype: DTypeLike
    ) -> tuple[jax.Array, jax.Array | None]:
        """See `Metric.kernel`."""
        if power < 0:
            raise ValueError(
                "the inverse of a Gaussian kernel is unbounded: start from a momentum, or use "
                "SobolevMetric"
            )
        h = self.spacing or (1.0,) * len(angles)
        weights = self.weight or (1 / len(self.sigma),) * len(self.sigma)
        total = 0.0
        for s, w in zip(self.sigma, weights):
            rows = [np.exp(-0.5 * (s * a / size) ** 2) for a, size in zip(angles, h)]
            total += w * functools.reduce(jnp.multiply, [jnp.asarray(r, dtype) for r in rows])
        return _power(total, power), None


def _outer_sum(rows, dtype):
    return functools.reduce(jnp.add, [jnp.asarray(r, dtype) for r in rows])


def _power(x, exponent):
    whole = math.isclose(exponent, round(exponent))
    return jax.lax.integer_pow(x, round(exponent)) if whole else x**exponent


def _check_spacing(spacing) -> None:
    if spacing is not None and min(spacing) <= 0:
        raise ValueError(f"spacing {spacing} must be positive, in mm")
