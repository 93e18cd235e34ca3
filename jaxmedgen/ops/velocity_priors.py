"""Gaussian priors on velocity fields in whitened coordinates: ``v = A xi`` with ``xi ~ N(0, 1)``.

====================  ==================================================  =========================
prior                 coordinates                                         ``<L v, v>``
====================  ==================================================  =========================
`FourierPrior`        coefficients of the low frequencies (a band), or     Sobolev metric
                      of all of them (dense fields)
`ControlPrior`        a grid of Wendland or cubic B-spline points          ``p^T K_w p``
====================  ==================================================  =========================

The prior's precision is ``L / scale^2``; `Hyper` names the parameters that may be estimated. Fields
``[b, *space, n]`` are in voxels.

Sources: Zhang and Fletcher, "Fast diffeomorphic image registration via Fourier-approximated Lie
algebras", 2019 (band); Pai et al., "Kernel bundle diffeomorphic image registration using stationary
velocity fields and Wendland basis functions", 2016 (``p^T K_w p``).
"""

import dataclasses
import functools
import math
from typing import Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.ops.control_grids import bspline_field, control_shape
from jaxmedgen.ops.flash import check_band, from_band
from jaxmedgen.ops.sobolev import fourier_angles
from jaxmedgen.ops.wendland import wendland_control_shape, wendland_field, wendland_gram

Hyper = dict[str, jax.Array]
"""``log_scale`` and, for a `FourierPrior`, ``log_alpha``: scalars."""

_ASCENT_STEPS = 20


@runtime_checkable
class VelocityPrior(Protocol):
    """A distribution of velocity fields; hashable, so that it can be static."""

    @property
    def coordinates(self) -> tuple[int, ...]:
        """Shape of ``xi`` of one sample."""

    def start(self, deviation: float | int) -> Hyper:
        """Parameters for a standard deviation in voxels of every component of v."""

    def velocity(self, xi: Float[Array, " b *x"], hyper: Hyper) -> Float[Array, " b *s n"]:
        """``v = A xi``."""

    def fit(self, square: Float[Array, " *x"], hyper: Hyper, rate: float | int) -> Hyper:
        """Parameters that suit velocities with the mean square `square` of their ``xi``."""

    def rewhiten(self, xi: Float[Array, " b *x"], old: Hyper, new: Hyper) -> Float[Array, " b *x"]:
        """Coordinates of the same velocities under other parameters."""


@dataclasses.dataclass(frozen=True)
class FourierPrior:
    """``L = (-alpha Laplacian + gamma)^power`` in the orthonormal real Fourier basis.

    Attributes:
        shape: of the volume.
        band: odd number of low frequencies an axis; None keeps all: dense fields.
        alpha: where the estimation of alpha starts, in squared voxels.
        gamma: weight of the field itself.
        power: exponent c; flows are smooth for ``c > d/2 + 1``.
        padding: voxels added on every face, for the basis is periodic.
    """

    shape: tuple[int, ...]
    band: int | None = None
    alpha: float | int = 3.0
    gamma: float | int = 1.0
    power: float | int = 3
    padding: int = 0

    def __post_init__(self) -> None:
        if self.band is not None:
            check_band(self.grid, self.band)
        if min(self.alpha, self.gamma, self.power) <= 0 or self.padding < 0:
            raise ValueError(
                f"alpha {self.alpha}, gamma {self.gamma} and power {self.power} must be positive, "
                f"padding {self.padding} not negative"
            )

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape with the padding."""
        return tuple(size + 2 * self.padding for size in self.shape)

    @property
    def coordinates(self) -> tuple[int, ...]:
        """See `VelocityPrior`."""
        kept = self.grid if self.band is None else (self.band,) * len(self.shape)
        return (len(self.shape), *kept)

    def start(self, deviation: float | int) -> Hyper:
        """See `VelocityPrior`."""
        _check_deviation(deviation)
        unit = jnp.sum(1 / self.symbol(self.alpha)) / math.prod(self.grid)
        return {
            "log_scale": jnp.log(deviation / jnp.sqrt(unit)),
            "log_alpha": jnp.log(jnp.float32(self.alpha)),
        }

    def symbol(self, alpha: Float[Array, ""] | float | int) -> Float[Array, " *k"]:
        """Eigenvalues of L, one a coefficient of a component."""
        total = jnp.zeros(())
        for axis, (size, kept) in enumerate(zip(self.grid, self.coordinates[1:])):
            row = 2 * (1 - np.cos(fourier_angles(size)[:kept]))
            total = total + row.reshape(*(-1 if axis == j else 1 for j in range(len(self.grid))))
        return (alpha * total + self.gamma) ** self.power

    def coefficients(self, xi: Float[Array, " b *x"], hyper: Hyper) -> Float[Array, " b *x"]:
        """Fourier coefficients of v."""
        return jnp.exp(hyper["log_scale"]) * xi / jnp.sqrt(self._symbol(hyper))

    def momentum(self, xi: Float[Array, " b *x"], hyper: Hyper) -> Float[Array, " b *x"]:
        """Fourier coefficients of ``L v``."""
        return jnp.exp(hyper["log_scale"]) * xi * jnp.sqrt(self._symbol(hyper))

    def velocity(self, xi: Float[Array, " b *x"], hyper: Hyper) -> Float[Array, " b *s n"]:
        """See `VelocityPrior`."""
        return self.crop(from_band(self.coefficients(xi, hyper), self.grid))

    def crop(self, field: Float[Array, " b *s n"]) -> Float[Array, " b *t n"]:
        """The part of a padded field that lies in the volume."""
        inner = (slice(self.padding, self.padding + size) for size in self.shape)
        return field[(slice(None), *inner)]

    def fit(self, square: Float[Array, " *x"], hyper: Hyper, rate: float | int) -> Hyper:
        """Ascends ``-1/2 <L_a v, v> + 1/2 log det L_a`` in log alpha.

        The scale is at its optimum for each alpha, ``scale^2 = <L_a v, v> / d``, for the two are
        closely coupled.

        Args:
            square: mean of ``xi^2`` over samples.
            hyper: parameters that whitened them.
            rate: of 20 steps on the mean over all coefficients; 0 keeps alpha.
        """
        old = self._symbol(hyper)

        def likelihood(log_alpha):
            ratio = self.symbol(jnp.exp(log_alpha)) / old
            return 0.5 * (jnp.mean(jnp.log(ratio)) - jnp.log(jnp.mean(square * ratio)))

        def ascend(log_alpha, _):
            return log_alpha + rate * jax.grad(likelihood)(log_alpha), None

        log_alpha = jax.lax.scan(ascend, hyper["log_alpha"], None, length=_ASCENT_STEPS)[0]
        size = jnp.mean(square * self.symbol(jnp.exp(log_alpha)) / old)
        return {"log_scale": hyper["log_scale"] + 0.5 * jnp.log(size), "log_alpha": log_alpha}

    def rewhiten(self, xi: Float[Array, " b *x"], old: Hyper, new: Hyper) -> Float[Array, " b *x"]:
        """See `VelocityPrior`."""
        ratio = jnp.sqrt(self._symbol(new) / self._symbol(old))
        return xi * ratio * jnp.exp(old["log_scale"] - new["log_scale"])

    def _symbol(self, hyper):
        return self.symbol(jnp.exp(hyper["log_alpha"]))


@dataclasses.dataclass(frozen=True)
class ControlPrior:
    """Control points ``p`` with the energy ``p^T K_w p / (2 scale^2)``, K_w of Wendland's kernel.

    With Wendland's kernel as basis the field's covariance at the points is ``scale^2 K_w``, so the
    scale is the standard deviation in voxels there.

    Attributes:
        shape: of the volume.
        control_spacing: voxels between control points.
        basis: ``wendland`` or ``bspline`` (cubic).
        support: radius of the kernel in control spacings, 2 to 3.
    """

    shape: tuple[int, ...]
    control_spacing: int = 8
    basis: Literal["wendland", "bspline"] = "wendland"
    support: float | int = 2.5

    def __post_init__(self) -> None:
        if self.basis not in ("wendland", "bspline"):
            raise ValueError(f"basis {self.basis!r} is unknown: use 'wendland' or 'bspline'")

    @property
    def coordinates(self) -> tuple[int, ...]:
        """See `VelocityPrior`."""
        if self.basis == "wendland":
            points = wendland_control_shape(self.shape, self.control_spacing)
        else:
            points = control_shape(self.shape, self.control_spacing)
        return (*points, len(self.shape))

    def start(self, deviation: float | int) -> Hyper:
        """See `VelocityPrior`; exact at Wendland's points, approximate elsewhere."""
        _check_deviation(deviation)
        return {"log_scale": jnp.log(jnp.float32(deviation))}

    def points(self, xi: Float[Array, " b *x"], hyper: Hyper) -> Float[Array, " b *x"]:
        """Coefficients p."""
        root = jnp.asarray(_inverse_root(self.coordinates[:-1], float(self.support)), xi.dtype)
        flat = xi.reshape(xi.shape[0], -1, xi.shape[-1])
        p = jnp.einsum("pq,bqc->bpc", root, flat, precision="highest")
        return jnp.exp(hyper["log_scale"]) * p.reshape(xi.shape)

    def velocity(self, xi: Float[Array, " b *x"], hyper: Hyper) -> Float[Array, " b *s n"]:
        """See `VelocityPrior`."""
        p = self.points(xi, hyper)
        if self.basis == "bspline":
            return bspline_field(p, self.shape)
        return wendland_field(
            p, self.shape, control_spacing=self.control_spacing, support=self.support
        )

    def fit(self, square: Float[Array, " *x"], hyper: Hyper, rate: float | int) -> Hyper:
        """The scale in closed form; there is no alpha."""
        return {"log_scale": hyper["log_scale"] + 0.5 * jnp.log(jnp.mean(square))}

    def rewhiten(self, xi: Float[Array, " b *x"], old: Hyper, new: Hyper) -> Float[Array, " b *x"]:
        """See `VelocityPrior`."""
        return xi * jnp.exp(old["log_scale"] - new["log_scale"])


@functools.cache
def _inverse_root(grid: tuple[int, ...], support: float) -> np.ndarray:
    """``C^-T`` with ``K_w = C C^T``, so that ``p = C^-T xi`` has ``p^T K_w p = |xi|^2``."""
    factor = np.linalg.cholesky(wendland_gram(grid, support=support))
    return np.linalg.inv(factor).T.astype(np.float32)


def _check_deviation(deviation) -> None:
    if deviation <= 0:
        raise ValueError(f"deviation {deviation} of the prior must be positive, in voxels")
