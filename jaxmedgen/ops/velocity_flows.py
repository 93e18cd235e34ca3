"""From whitened coordinates of a velocity to a diffeomorphism and its inverse.

A *stationary* flow is the group exponential of v. A *geodesic* flow starts from v and follows
EPDiff: the same v leads elsewhere. Both give ``u`` with ``id + u = id + v + O(v^2)``, and an image
is pulled by it: ``I(x + u(x))``.

Sources: Arsigny et al., "A log-Euclidean framework for statistics on diffeomorphisms", 2006; Younes
et al., "Evolutions equations in computational anatomy", 2009.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float

from jaxmedgen.ops.fields import exp_velocity
from jaxmedgen.ops.flash import from_band, shoot_flash
from jaxmedgen.ops.invariant_metrics import SobolevMetric
from jaxmedgen.ops.shooting import shoot
from jaxmedgen.ops.velocity_priors import ControlPrior, FourierPrior, Hyper, VelocityPrior


@runtime_checkable
class VelocityFlow(Protocol):
    """Velocities of a prior with the way to integrate them; hashable."""

    prior: VelocityPrior

    def displacement(self, xi: Float[Array, " b *x"], hyper: Hyper) -> Float[Array, " b *s n"]:
        """Displacement in voxels of the diffeomorphism."""

    def inverse(self, xi: Float[Array, " b *x"], hyper: Hyper) -> Float[Array, " b *s n"]:
        """Displacement in voxels of its inverse."""


@dataclasses.dataclass(frozen=True)
class StationaryFlow:
    """``Exp(v)`` by scaling and squaring.

    Attributes:
        prior: of v.
        squarings: their number; None adapts it to the fastest voxel.
    """

    prior: VelocityPrior
    squarings: int | None = 7

    def displacement(self, xi: Float[Array, " b *x"], hyper: Hyper) -> Float[Array, " b *s n"]:
        """See `VelocityFlow`."""
        return exp_velocity(self.prior.velocity(xi, hyper), steps=self.squarings)

    def inverse(self, xi: Float[Array, " b *x"], hyper: Hyper) -> Float[Array, " b *s n"]:
        """``Exp(-v)``."""
        return self.displacement(-xi, hyper)


@dataclasses.dataclass(frozen=True)
class GeodesicFlow:
    """The map ``psi_1 = phi_1^-1`` of the geodesic that starts with ``-v``.

    That is how LDDMM moves an image (``I o phi^-1``); the sign makes it the identity plus v to
    first order, as in `StationaryFlow`. A band is shot within the band (FLASH), dense fields on the
    grid.

    Attributes:
        prior: of v; its alpha must stay the metric's.
        metric: of the geodesics.
        steps: of RK4.
    """

    prior: FourierPrior
    metric: SobolevMetric
    steps: int = 10

    def displacement(self, xi: Float[Array, " b *x"], hyper: Hyper) -> Float[Array, " b *s n"]:
        """See `VelocityFlow`."""
        return self._shoot(xi, hyper, ("inverse",))

    def inverse(self, xi: Float[Array, " b *x"], hyper: Hyper) -> Float[Array, " b *s n"]:
        """``phi_1``; within a band by shooting back from where the geodesic has arrived."""
        return self._shoot(xi, hyper, ("forward",))

    def _shoot(self, xi, hyper, maps):
        prior = self.prior
        if prior.band is None:
            m = from_band(prior.momentum(-xi, hyper), prior.grid)
            shot = shoot(m, self.metric, start_is="momentum", steps=self.steps, maps=maps)
            return prior.crop(getattr(shot, maps[0]))
        v, u = shoot_flash(
            prior.coefficients(-xi, hyper), prior.grid, self.metric, steps=self.steps
        )
        if maps == ("forward",):
            _, u = shoot_flash(-v, prior.grid, self.metric, steps=self.steps)
        return prior.crop(from_band(u, prior.grid))


def velocity_flow(
    shape: Sequence[int],
    *,
    flow: str = "stationary",
    parametrisation: str = "wendland",
    control_spacing: int = 8,
    support: float | int = 2.5,
    band: int = 15,
    alpha: float | int = 3.0,
    gamma: float | int = 1.0,
    power: float | int = 3,
    padding: int = 0,
    squarings: int = 7,
    shooting_steps: int = 10,
) -> VelocityFlow:
    """A flow from plain settings, as configurations hold them.

    Args:
        shape: of the volume.
        flow: ``stationary`` or ``geodesic``.
        parametrisation: control points (``wendland``, ``bspline``), ``band`` or ``dense``.
        control_spacing: of control points, in voxels.
        support: of Wendland's kernel, in control spacings.
        band: odd number of frequencies an axis.
        alpha: of the Sobolev metric, in squared voxels.
        gamma: of the metric.
        power: of the metric.
        padding: voxels round the volume, where the grid is periodic.
        squarings: of the exponential; 0 takes as many as the fastest voxel of each sample needs.
        shooting_steps: of RK4.

    Raises:
        ValueError: for an unknown flow or parametrisation, or values that do not fit.
    """
    shape = tuple(shape)
    if parametrisation in ("wendland", "bspline"):
        prior = ControlPrior(shape, control_spacing, parametrisation, support)
    elif parametrisation in ("band", "dense"):
        kept = band if parametrisation == "band" else None
        prior = FourierPrior(shape, kept, alpha, gamma, power, padding)
    else:
        raise ValueError(
            f"parametrisation {parametrisation!r} is unknown: use 'wendland', 'bspline', 'band' or "
            "'dense'"
        )
    if flow == "stationary":
        return StationaryFlow(prior, squarings or None)
    if flow == "geodesic":
        if isinstance(prior, ControlPrior):
            raise ValueError(
                f"flow 'geodesic' with parametrisation {parametrisation!r}: control points end at "
                "the border, where the momentum L v is unbounded; use 'band' or 'dense'"
            )
        return GeodesicFlow(prior, SobolevMetric(alpha, gamma, power), shooting_steps)
    raise ValueError(f"flow {flow!r} is unknown: use 'stationary' or 'geodesic'")
