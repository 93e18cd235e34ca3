"""The M-step of PADDIT: averages over subjects and draws, and what the log is told of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxmedgen.ops.collectives import all_sum
from jaxmedgen.ops.field_measures import jacobian_determinant
from jaxmedgen.ops.fields import compose, warp
from jaxmedgen.ops.velocity_flows import VelocityFlow
from jaxmedgen.ops.velocity_priors import Hyper
from jaxmedgen.types import Leaf, Params

_LEAST_SIGMA = 1e-3


class Moments(NamedTuple):
    """Averages over all subjects and draws.

    Attributes:
        mean: of the pulled images, ``[*s, c]``.
        square: of their squares, ``[*s, c]``.
        labels: of the pulled one-hot labels, ``[*s, k]``.
        gain: of the noise's variance under interpolation, scalar.
        displacement: root mean square of u in voxels, scalar.
        folding: part of the voxels with a determinant of at most 0, scalar.
        velocity: of ``xi^2``, ``[*x]``.
    """

    mean: Leaf
    square: Leaf
    labels: Leaf
    gain: Leaf
    displacement: Leaf
    folding: Leaf
    velocity: Leaf


def first_guess(
    image: Float[Array, " b *s c"], compared: tuple[int, ...], subjects: int
) -> dict[str, Array]:
    """``template``, the mean of all images, and ``log_sigma`` of its residual.

    Args:
        image: of this device's subjects.
        compared: channels of the likelihood.
        subjects: K, over all devices.
    """
    mean = all_sum(jnp.sum(image, 0)) / subjects
    residual = (image - mean)[..., compared]
    variance = all_sum(jnp.mean(residual**2, tuple(range(1, image.ndim))).sum()) / subjects
    return {"template": mean, "log_sigma": 0.5 * jnp.log(variance)}


def scatter_rows(old: Array, case: Int[Array, " b"], rows: Array) -> Array:
    """`old` with its rows `case` replaced by those of all devices."""
    return all_sum(jnp.zeros_like(old).at[case].set(rows))


def moments(
    draws: Float[Array, " b chains draws *x"],
    image: Float[Array, " b *s c"],
    labels: Float[Array, " b *s k"],
    flow: VelocityFlow,
    hyper: Hyper,
    subjects: int,
) -> Moments:
    """What the M-step needs, one draw of all subjects at a time.

    Args:
        draws: whitened velocities.
        image: all channels of I_k.
        labels: one-hot.
        flow: gives phi.
        hyper: of the prior.
        subjects: K, over all devices.
    """
    both = jnp.concatenate([image, labels], -1)
    several = jnp.moveaxis(draws.reshape(draws.shape[0], -1, *draws.shape[3:]), 1, 0)

    def add(total, xi):
        u = flow.displacement(xi, hyper)
        pulled = warp(both, u)
        here, its_labels = jnp.split(pulled, (image.shape[-1],), -1)
        maps = (interpolation_gain(u), jnp.sum(u**2, -1), 1.0 * (jacobian_determinant(u) <= 0))
        means = (jnp.mean(x.reshape(x.shape[0], -1), -1).sum() for x in maps)
        new = Moments(here.sum(0), (here**2).sum(0), its_labels.sum(0), *means, (xi**2).sum(0))
        return jax.tree.map(jnp.add, total, new), None

    total = jax.lax.scan(add, _zeros(several[0], image, labels), several)[0]
    count = subjects * several.shape[0]
    found = jax.tree.map(lambda x: all_sum(x) / count, total)
    return found._replace(displacement=jnp.sqrt(found.displacement))


def closed_form(
    found: Moments, compared: tuple[int, ...]
) -> tuple[dict[str, Array], Float[Array, " *s c"], Float[Array, ""]]:
    """The M-step: ``template``, ``labels`` and ``log_sigma``; the variance and its mean.

    Args:
        found: averages of the pulled subjects.
        compared: channels of the likelihood.
    """
    variance = jnp.maximum(found.square - found.mean**2, 0.0)
    spread = jnp.mean(variance[..., compared])
    log_sigma = 0.5 * jnp.log(jnp.maximum(spread, _LEAST_SIGMA**2))
    new = {"template": found.mean, "labels": found.labels, "log_sigma": log_sigma}
    return new, variance, spread


def interpolation_gain(displacement: Float[Array, " b *s n"]) -> Float[Array, " b *s"]:
    """Variance that linear interpolation leaves of white noise: the sum of its squared weights."""
    part = displacement - jnp.floor(displacement)
    return jnp.prod(part**2 + (1 - part) ** 2, -1)


def _zeros(xi, image, labels):
    s = image.shape[1:]
    return Moments(
        jnp.zeros(s),
        jnp.zeros(s),
        jnp.zeros(labels.shape[1:]),
        0.0,
        0.0,
        0.0,
        jnp.zeros(xi.shape[1:]),
    )


def sharpness(template: Float[Array, " *s c"]) -> Float[Array, ""]:
    """Mean of ``|grad I_T|`` by central differences, in intensities a voxel."""
    axes = range(template.ndim - 1)
    squares = sum(jnp.gradient(template, axis=axis) ** 2 for axis in axes)
    return jnp.mean(jnp.sqrt(jnp.sum(squares, -1)))


def inverse_error(
    xi: Float[Array, " b *x"], flow: VelocityFlow, hyper: Hyper
) -> Float[Array, " b"]:
    """Mean of ``|phi o phi^-1 - id|`` in voxels."""
    u, back = flow.displacement(xi, hyper), flow.inverse(xi, hyper)
    error = compose(u, back)
    return jnp.mean(jnp.linalg.norm(error, axis=-1), tuple(range(1, u.ndim - 1)))


def iteration_metrics(
    params: Params,
    before: Float[Array, " *s c"],
    found: Moments,
    spread: Float[Array, ""],
    chains: Mapping[str, Any],
    xi: Float[Array, " b *x"],
    flow: VelocityFlow,
    compared: tuple[int, ...],
) -> dict[str, Float[Array, ""]]:
    """Scalars of the log; the worst subject's where convergence is concerned.

    Args:
        params: after the iteration.
        before: template before it.
        found: moments of the iteration.
        spread: mean variance of the compared channels.
        chains: of all subjects.
        xi: one whitened velocity a subject of this device.
        flow: gives phi.
        compared: channels of the likelihood.

    Returns:
        ``noise`` is sigma without what interpolation has averaged away, and without the part of
        each subject's noise that the template follows: an estimate of the noise of the images.
    """
    template = params["template"]
    offset = jnp.mean((template - found.mean)[..., compared] ** 2)
    residual = jnp.sqrt(spread + offset)
    sigma = jnp.exp(params["log_sigma"])
    voxels = template[..., 0].size * len(compared)
    size = jnp.mean(found.velocity) * found.velocity.size
    checks = chains["diagnostics"]
    subjects = checks["rhat"].shape[0]
    own = 1 - 1 / subjects if subjects > 1 else 1.0
    change = jnp.linalg.norm(template - before) / jnp.linalg.norm(before)
    error = inverse_error(xi, flow, params["prior"])
    prior = {name.removeprefix("log_"): jnp.exp(x) for name, x in params["prior"].items()}
    return {
        "loss": jnp.log(sigma) + 0.5 * (residual / sigma) ** 2 + 0.5 * size / voxels,
        "residual": residual,
        "sigma": sigma,
        "noise": sigma / jnp.sqrt(found.gain * own),
        "template_change": change,
        "sharpness": sharpness(template),
        "displacement": found.displacement,
        "folding": 100 * found.folding,
        "inverse_error": all_sum(jnp.sum(error)) / subjects,
        "step_size": jnp.mean(jnp.exp(chains["tuning"]["log_x_avg"])),
        "acceptance": jnp.mean(checks["acceptance"]),
        "energy_error": jnp.mean(checks["energy_error"]),
        "rhat": jnp.max(checks["rhat"]),
        "ess": jnp.min(checks["ess"]),
        **{f"prior_{name}": x for name, x in prior.items()},
    }
