"""Registration of images by geodesic shooting (LDDMM).

Minimises ``E(v_0) = <L v_0, v_0> / 2 + |I_0 o psi_1 - I_1|^2 / (2 sigma^2)`` over the initial
velocity, from coarse to fine. The unknowns are the coefficients ``xi`` of ``v_0 = K^(1/2) xi`` in
the real Fourier basis: their prior is white, so that quasi-Newton steps are well scaled.

Sources: Vialard et al., "Diffeomorphic 3D image registration via geodesic shooting using an
efficient adjoint calculation", 2012; Zhang and Fletcher, 2019 (band-limited velocities).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxmedgen.ops.fields import warp
from jaxmedgen.ops.flash import band_filter, check_band, from_band, shoot_flash
from jaxmedgen.ops.resize import resize
from jaxmedgen.ops.shooting import Gradient, shoot
from jaxmedgen.ops.sobolev import SobolevMetric
from jaxmedgen.types import Leaf

Optimizer = Literal["lbfgs", "adam", "sobolev"]


class Registration(NamedTuple):
    """What registration has found.

    Attributes:
        velocity: v_0 on the padded grid, ``[b, *space + 2 padding, n]`` in voxels.
        inverse: displacement psi - id on the images' grid: ``warp(source, inverse)`` is like the
            target.
        energy: E before each iteration, all levels one after the other, summed over the batch and
            in units of the finest grid's voxels.
    """

    velocity: Leaf
    inverse: Leaf
    energy: Leaf


def register(
    source: Float[Array, " b *s c"],
    target: Float[Array, " b *s c"],
    metric: SobolevMetric | None = None,
    *,
    sigma: float | int = 0.03,
    iterations: Sequence[int] = (50, 30, 20),
    optimizer: Optimizer | str = "lbfgs",
    learning_rate: float | int = 0.1,
    steps: int = 10,
    band: int | None = None,
    gradient: Gradient | str = "checkpoint",
    padding: int = 0,
) -> Registration:
    """Finds the geodesic that takes `source` to `target`.

    A batch is one problem, whose energy is the sum over its samples (they share line searches).

    Args:
        source: I_0, 2D or 3D; intensities of about [0, 1] suit the default sigma.
        target: I_1.
        metric: of the velocity in voxels of the finest grid, with `spacing` None. Default:
            ``SobolevMetric()``.
        sigma: standard deviation of the noise; small values follow the images more closely.
        iterations: on each level of the pyramid, coarsest first; each level halves the voxels.
        optimizer: ``lbfgs`` with line search, ``adam``, or ``sobolev``: steps ``v_0 <- v_0 - e G``
            along the gradient ``G = v_0 + K grad`` in the metric, of the misfit's gradient
            ``grad``, as in Vialard et al.
        learning_rate: of Adam, or e, which must suit sigma and the images; L-BFGS finds its own.
        steps: of RK4 from 0 to 1.
        band: odd number of low frequencies an axis the velocity is restricted to, None for a dense
            velocity. Shooting then costs next to nothing (`flash.py`).
        gradient: of `shoot`, for a dense velocity.
        padding: voxels of border added on every face before and cut off after. The flow lives on a
            periodic grid: what moves out on one side comes in on the other unless there is room.

    Raises:
        ValueError: for shapes that differ, a metric with a spacing, an even band, or volumes too
            small for the pyramid.
    """
    metric = SobolevMetric() if metric is None else metric
    _check(source, target, metric, sigma, iterations, optimizer, padding)
    n, b = source.ndim - 2, source.shape[0]
    wide = [(0, 0), *((padding, padding),) * n, (0, 0)]
    images = [jnp.pad(x, wide, mode="edge") for x in (source, target)]
    shape = images[0].shape[1:-1]
    check_band(shape, band or 1)
    energies, xi = [], jnp.zeros((b, n, *(1,) * n), source.dtype)
    for level, count in enumerate(iterations):
        factor = 2 ** (len(iterations) - 1 - level)
        small = tuple(-(-size // factor) for size in shape)
        grid = _grid(small, band)
        # Coefficients of equal frequencies mean the same on every level: finer ones start at zero.
        rest = [(0, size - old) for size, old in zip(grid, xi.shape[2:])]
        xi = jnp.pad(xi, [(0, 0), (0, 0), *rest])
        pair = tuple(resize(x, small, antialias=True) for x in images)
        scaled = _Problem(
            dataclasses.replace(metric, spacing=None, alpha=metric.alpha / factor**2),
            small,
            factor,
            float(sigma),
            steps,
            band,
            gradient,
        )
        xi, energy = _minimise(scaled, optimizer, learning_rate, count, xi, pair)
        energies.append(energy)
    velocity, inverse = scaled.shoot(xi)
    inner = (slice(None), *(slice(padding, s - padding) for s in shape))
    return Registration(velocity, inverse[inner], jnp.concatenate(energies))


@dataclasses.dataclass(frozen=True)
class _Problem:
    """One level: voxels are `factor` of the finest grid's, and so is the unit of velocity."""

    metric: SobolevMetric
    shape: tuple[int, ...]
    factor: int
    sigma: float
    steps: int
    band: int | None
    gradient: Gradient

    def shoot(self, xi):
        """v_0 and the inverse displacement on this level's grid, in its voxels."""
        # <L v, v> in voxels of the finest grid: v counts `factor`, a voxel `factor`^n.
        scale = self.factor ** -(1 + len(self.shape) / 2)
        if self.band is not None:
            v = scale * band_filter(xi, self.shape, self.metric, 0.5)
            _, u = shoot_flash(v, self.shape, self.metric, steps=self.steps)
            return from_band(v, self.shape), from_band(u, self.shape)
        v, m = (
            from_band(scale * band_filter(xi, self.shape, self.metric, power), self.shape)
            for power in (0.5, -0.5)
        )
        shot = shoot(m, self.metric, start_is="momentum", steps=self.steps, gradient=self.gradient)
        return v, shot.inverse

    def energy(self, xi, pair):
        """E in units of the finest grid."""
        moved = warp(pair[0], self.shoot(xi)[1])
        residual = jnp.sum((moved - pair[1]) ** 2) * self.factor ** len(self.shape)
        return 0.5 * jnp.sum(xi**2) + residual / (2 * self.sigma**2)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _minimise(problem, optimizer, learning_rate, count, xi, pair):
    """`count` iterations from `xi`; returns the last point and the energies before each."""

    def value(xi):
        return problem.energy(xi, pair)

    evaluate = jax.value_and_grad(value)

    def plain(carry, _):
        xi, state = carry
        energy, slope = evaluate(xi)
        update, state = method.update(slope, state, xi)
        return (optax.apply_updates(xi, update), state), energy

    def lbfgs(carry, _):
        xi, state, energy, slope = carry
        update, state = method.update(slope, state, xi, value=energy, grad=slope, value_fn=value)
        # The line search has evaluated the point it ends at.
        later = [optax.tree.get(state, name) for name in ("value", "grad")]
        return (optax.apply_updates(xi, update), state, *later), energy

    if optimizer != "lbfgs":
        # A step along the slope in xi is one along K times the slope in v_0: Sobolev's gradient.
        method = optax.adam(learning_rate) if optimizer == "adam" else optax.sgd(learning_rate)
        iterate, start = plain, (xi, method.init(xi))
    else:
        method = optax.lbfgs()
        iterate, start = lbfgs, (xi, method.init(xi), *evaluate(xi))
    last, energies = jax.lax.scan(iterate, start, None, length=count)
    return last[0], energies


def _grid(shape, band):
    """Coefficients an axis: those of the grid, or the largest odd band that fits."""
    if band is None:
        return shape
    return (min(band, min(shape) - 1 + min(shape) % 2),) * len(shape)


def _check(source, target, metric, sigma, iterations, optimizer, padding) -> None:
    if source.shape != target.shape or source.ndim not in (4, 5):
        raise ValueError(
            f"source {source.shape} and target {target.shape} must be of one shape "
            "[b, *space, c] with 2 or 3 axes of space"
        )
    if metric.spacing is not None:
        raise ValueError(f"metric has spacing {metric.spacing}: register works in voxels, use None")
    if sigma <= 0 or padding < 0:
        raise ValueError(f"sigma {sigma} must be positive and padding {padding} not negative")
    if not iterations or min(iterations) < 1:
        raise ValueError(f"iterations {tuple(iterations)} must be positive, one a level")
    if optimizer not in get_args(Optimizer):
        raise ValueError(
            f"optimizer {optimizer!r} is unknown: use {' or '.join(map(repr, get_args(Optimizer)))}"
        )
    if min(source.shape[1:-1]) + 2 * padding < 4 * 2 ** (len(iterations) - 1):
        raise ValueError(
            f"volume {source.shape[1:-1]} is too small for {len(iterations)} levels: give fewer"
        )
