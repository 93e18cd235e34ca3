"""One iteration of Monte-Carlo expectation-maximisation for a template and its deformations.

Model of PADDIT (Orbes-Arteaga et al. 2019): ``I_k o phi(v_k) = I_T + noise`` with
``v_k ~ N(0, L^-1)``, so per image ``U(v) = |I_T - I_k o phi(v)|^2 / (2 sigma^2) + <L v, v> / 2``.
The residual lives in template space: no Jacobian, and the M-step is closed form. Maps that fold
space are no part of the model: their energy has a wall.

An iteration improves or samples every v_k (E-step), takes their common mean out, and then estimates
template, sigma and prior (M-step). Functions see one device's rows of the batch of all subjects and
reduce over devices.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key

from jaxmedgen.metrics.chains import chain_diagnostics
from jaxmedgen.ops.collectives import all_sum
from jaxmedgen.ops.field_measures import folding_count
from jaxmedgen.ops.fields import warp
from jaxmedgen.ops.filters import gaussian_filter
from jaxmedgen.ops.hmc import sample_chains
from jaxmedgen.ops.velocity_flows import VelocityFlow
from jaxmedgen.ops.velocity_priors import Hyper, VelocityPrior
from jaxmedgen.types import Leaf

_WALL = 1e6
"""Energy of a folded voxel: no transition of a chain that does not fold ends with one. Finite, so
that a chain that starts folded finds its way out."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How velocities are improved and sampled in an E-step.

    Attributes:
        map_steps: Adam steps towards the mode.
        map_rate: their largest rate, in standard deviations of the prior.
        chains: a subject.
        draws: kept a chain and iteration; all the same where modes are all that is looked for.
        thinning: transitions a draw.
        leapfrog_steps: of a trajectory.
        target: acceptance that the step size is tuned to.
        step_size: where the tuning starts.
        mass: ``prior`` takes L, and sharp images then ask for tiny steps; ``curvature`` adds the
            likelihood's Gauss-Newton matrix at the start of each E-step, one matrix a subject;
            ``template`` that of the template at rest, one for all subjects, which is much
            cheaper. Both are for up to a few thousand coordinates.
    """

    map_steps: int = 20
    map_rate: float | int = 0.2
    chains: int = 2
    draws: int = 20
    thinning: int = 5
    leapfrog_steps: int = 10
    target: float | int = 0.75
    step_size: float | int = 0.05
    mass: Literal["prior", "curvature", "template"] = "curvature"

    def __post_init__(self) -> None:
        counts = (self.map_steps, self.chains, self.draws, self.thinning, self.leapfrog_steps)
        if min(counts) < 1:
            raise ValueError(f"{self}: all counts must be at least 1")
        if self.mass not in ("prior", "curvature", "template"):
            raise ValueError(
                f"mass {self.mass!r} is unknown: use 'prior', 'curvature' or 'template'"
            )
        if not 0 < self.target < 1 or min(self.map_rate, self.step_size) <= 0:
            raise ValueError(
                f"target {self.target} must lie between 0 and 1, map_rate {self.map_rate} and "
                f"step_size {self.step_size} be positive"
            )


class Template(NamedTuple):
    """What the likelihood is given.

    Attributes:
        image: I_T, ``[*s, c]``, the channels that are compared.
        variance: sigma^2 times the temperature, scalar.
    """

    image: Leaf
    variance: Leaf


def smoothed(image: Float[Array, " b *s c"], width: float | int) -> Float[Array, " b *s c"]:
    """What the likelihood compares: images through a Gaussian of `width` voxels; 0 changes nothing.

    Linear interpolation averages the noise between voxels, so that shifts by half a voxel look more
    likely than none: a posterior of many modes. Smoothed noise has little left to average.
    """
    return gaussian_filter(image, width) if width else image


def posterior_energy(
    xi: Float[Array, " b *x"],
    image: Float[Array, " b *s c"],
    template: Template,
    flow: VelocityFlow,
    hyper: Hyper,
) -> Float[Array, " b parts"]:
    """``U``, in parts that sum to it: a part of the residual for every plane, prior, and wall.

    The wall has no gradient: ends of trajectories are rejected by it, their course is not bent.

    Args:
        xi: whitened coordinates of v.
        image: I_k.
        template: I_T and the variance.
        flow: gives phi.
        hyper: of the prior.
    """
    u = flow.displacement(xi, hyper)
    residual = warp(image, u) - template.image
    planes = jnp.sum(residual**2, tuple(range(2, residual.ndim))) / (2 * template.variance)
    prior = 0.5 * jnp.sum(xi**2, tuple(range(1, xi.ndim)))
    wall = (_WALL * folding_count(jax.lax.stop_gradient(u))).astype(prior.dtype)
    return jnp.concatenate([planes, prior[:, None], wall[:, None]], -1)


def curvature(
    xi: Float[Array, " b *x"],
    image: Float[Array, " b *s c"],
    template: Template,
    displacement: Callable[[Array, Hyper], Array],
    hyper: Hyper,
) -> Float[Array, " b d d"]:
    """``1 + J^T J``, the Gauss-Newton matrix of U; J is that of the residual over its deviation.

    Arguments as in `posterior_energy`, but for `displacement`: that of a flow, or for small
    velocities that of its prior, v itself. d is the number of coordinates.
    """

    def residual(xi):
        return warp(image, displacement(xi, hyper)) / jnp.sqrt(template.variance)

    _, push = jax.linearize(residual, xi)
    pull = jax.linear_transpose(push, xi)
    size = xi[0].size

    def column(unit):
        return pull(push(jnp.broadcast_to(unit.reshape(xi.shape[1:]), xi.shape)))[0]

    columns = jax.lax.map(column, jnp.eye(size, dtype=xi.dtype))
    return jnp.moveaxis(columns.reshape(size, xi.shape[0], size), 0, -1) + jnp.eye(size)


def find_modes(
    xi: Float[Array, " b *x"],
    image: Float[Array, " b *s c"],
    template: Template,
    flow: VelocityFlow,
    hyper: Hyper,
    sampling: Sampling,
    steps: int,
) -> Float[Array, " b *x"]:
    """`steps` of Adam on U from `xi`, the rate falling to zero by a cosine; samples are apart."""
    # Adam's normalisation makes samples independent of each other: U is a sum over them.
    optimizer = optax.adam(optax.cosine_decay_schedule(sampling.map_rate, steps))

    def improve(carry, _):
        xi, state = carry
        slope = jax.grad(lambda xi: jnp.sum(posterior_energy(xi, image, template, flow, hyper)))(xi)
        update, state = optimizer.update(slope, state)
        return (optax.apply_updates(xi, update), state), None

    return jax.lax.scan(improve, (xi, optimizer.init(xi)), None, length=steps)[0][0]


class EStep(NamedTuple):
    """Velocities after an E-step.

    Attributes:
        position: where the chains are, ``[b, chains, *x]``.
        draws: ``[b, chains, draws, *x]``.
        tuning: of the step sizes, each ``[b, chains]``.
        diagnostics: of the chains, one number a subject; NaN after steps towards the mode.
    """

    position: Leaf
    draws: Leaf
    tuning: dict[str, Leaf]
    diagnostics: dict[str, Leaf]


def expectation(
    keys: Key[Array, " b"],
    start: EStep,
    image: Float[Array, " b *s c"],
    template: Template,
    flow: VelocityFlow,
    hyper: Hyper,
    sampling: Sampling,
    *,
    sample: Bool[Array, ""] | None,
    adapt: Bool[Array, ""],
) -> EStep:
    """Samples the posterior of every v_k, or takes steps towards its mode.

    Args:
        keys: one a subject.
        start: the last E-step.
        image: I_k.
        template: I_T and the variance.
        flow: gives phi.
        hyper: of the prior.
        sampling: counts and rates.
        sample: draw samples; otherwise look for the mode. None: never, no sampler is compiled.
        adapt: tune the step sizes.
    """
    b, chains = start.position.shape[:2]

    def modes(start):
        xi = find_modes(
            start.position[:, 0], image, template, flow, hyper, sampling, sampling.map_steps
        )
        nothing = {name: jnp.full_like(x, jnp.nan) for name, x in start.diagnostics.items()}
        position = jnp.broadcast_to(xi[:, None], start.position.shape)
        draws = jnp.broadcast_to(xi[:, None, None], start.draws.shape)
        return EStep(position, draws, start.tuning, nothing)

    def posterior(start):
        each = jax.vmap(lambda key: jax.random.split(key, chains))(keys).reshape(-1)
        repeated = jnp.repeat(image, chains, axis=0)
        position, shape = start.position, start.position.shape[2:]
        root = None
        if sampling.mass == "curvature":
            mass = curvature(position[:, 0], image, template, flow.displacement, hyper)
            root = jnp.repeat(jnp.linalg.cholesky(mass), chains, axis=0)
        elif sampling.mass == "template":
            rest, own = jnp.zeros((1, *shape)), template.image[None]
            mass = curvature(rest, own, template, flow.prior.velocity, hyper)
            root = jnp.repeat(jnp.linalg.cholesky(mass), b * chains, axis=0)
        if root is not None:
            position = jnp.einsum("bij,bi->bj", root, position.reshape(b * chains, -1))

        def place(y):
            """``xi = C^-T y``: in the coordinates y the mass ``C C^T`` is 1."""
            if root is None:
                return y
            solved = jax.lax.linalg.triangular_solve(
                root, y[..., None], left_side=True, lower=True, transpose_a=True
            )
            return solved.reshape(-1, *shape)

        tuning, draws, course = sample_chains(
            each,
            position if root is not None else position.reshape(-1, *shape),
            {name: x.reshape(-1) for name, x in start.tuning.items()},
            lambda y: posterior_energy(place(y), repeated, template, flow, hyper),
            draws=sampling.draws,
            thinning=sampling.thinning,
            steps=sampling.leapfrog_steps,
            target=sampling.target,
            adapt=adapt,
        )
        draws = jnp.moveaxis(jax.lax.map(place, draws), 0, 1).reshape(start.draws.shape)
        tuning = {name: x.reshape(b, chains) for name, x in tuning.items()}
        course = {n: jnp.moveaxis(x, 0, 1).reshape(b, chains, -1) for n, x in course.items()}
        return EStep(draws[:, :, -1], draws, tuning, chain_diagnostics(course))

    if sample is None:
        return modes(start)
    return jax.lax.cond(sample, posterior, modes, start)


def centre(step: EStep, subjects: int) -> EStep:
    """Takes the mean velocity of all subjects out, so that the template does not drift."""
    mean = all_sum(jnp.sum(jnp.mean(step.draws, (1, 2)), 0)) / subjects
    return step._replace(position=step.position - mean, draws=step.draws - mean)


def rewhiten(step: EStep, prior: VelocityPrior, old: Hyper, new: Hyper) -> EStep:
    """The same velocities in the coordinates of other parameters of the prior."""

    def change(xi):
        return prior.rewhiten(xi.reshape(-1, *prior.coordinates), old, new).reshape(xi.shape)

    return step._replace(position=change(step.position), draws=change(step.draws))
