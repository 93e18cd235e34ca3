"""What has an exact answer: shots in a plane, samplers of one centroid's volume."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.experiments.reproductions.record import Claim
from jaxmedgen.ops.manifold_sampling import (
    random_centroids,
    sample_by_hmc,
    sample_by_random_walk,
)
from jaxmedgen.ops.metric_shooting import shoot_metric
from jaxmedgen.ops.riemannian_metric import (
    CentroidMetric,
    kinetic_energy,
    metric_of_factors,
    momentum_of,
)

VARIANCES = {2: (0.501, 0.535), 5: (0.200, 0.604), 10: (0.100, 0.653)}
"""By dimension: variance of a coordinate under the density, and of the walk without correction."""

DRIFTS = {
    ("rk2", 10): 1.4e-2,
    ("rk2", 50): 5e-4,
    ("rk4", 10): 2e-3,
    ("rk4", 20): 8e-5,
    ("rk4", 50): 1e-6,
}
"""Relative drift of the energy over a shot, by integrator and steps."""

_CHAINS = 300
_RADIUS = 3.0


def energy_drifts(seed: int = 0) -> dict[tuple[str, int], float]:
    """Largest ``|H_1 / H_0 - 1|`` of 64 shots of length 1 among 30 centroids, a plane, float64."""
    rng = np.random.default_rng(seed)
    factors = np.tril(0.3 * rng.standard_normal((30, 2, 2)), -1) + np.eye(2)
    centroids, z, v = (rng.standard_normal((n, 2)) for n in (30, 64, 64))
    v /= np.linalg.norm(v, axis=-1, keepdims=True)
    with jax.enable_x64(True):

        @jax.jit
        def drifts(centroids, factors, z, v):
            metric = metric_of_factors(centroids, factors, 0.8, 1e-3)
            first = kinetic_energy(metric, z, momentum_of(metric, z, v))
            found = []
            for integrator, steps in (*DRIFTS, ("leapfrog", 50)):
                shot = shoot_metric(metric, z, v, steps=steps, integrator=integrator)
                last = kinetic_energy(metric, shot.position, shot.momentum)
                found.append(jnp.max(jnp.abs(last / first - 1)))
            return found

        found = drifts(centroids, factors, z, v)
    return dict(zip((*DRIFTS, ("leapfrog", 50)), map(float, found)))


def one_centroid(d: int) -> CentroidMetric:
    """M = I at the origin, T = 1, lambda = 1e-4."""
    return metric_of_factors(jnp.zeros((1, d)), jnp.eye(d)[None], 1.0, 1e-4)


def variance(d: int, sampler: str) -> float:
    """Of a coordinate, over chains and the second half of their course."""

    @jax.jit
    def course(key):
        keys = jax.random.split(key, _CHAINS)
        metric = one_centroid(d)
        shared = {"radius": _RADIUS, "keep_course": True}
        start = random_centroids(keys, metric)
        if sampler == "hmc":
            made = sample_by_hmc(
                keys, metric, start, transitions=200, leapfrogs=15, step_size=0.05, **shared
            )
        elif sampler == "exact":
            made = sample_by_random_walk(
                keys, metric, start, transitions=500, deviation=0.2, steps=10, **shared
            )
        else:
            made = sample_by_random_walk(
                keys,
                metric,
                start,
                transitions=3000,
                deviation=0.05,
                steps=5,
                correction="none",
                **shared,
            )
        late = made.course[made.course.shape[0] // 2 :]
        return jnp.mean(late**2)

    return float(course(jax.random.key(d)))


def acceptance(step_size: float) -> float:
    """Of Hamiltonian trajectories of 15 steps, d = 10, T = 1.5, lambda = 1e-3, 50 centroids."""
    rng = np.random.default_rng(0)
    factors = np.tril(0.1 * rng.standard_normal((50, 10, 10)), -1) + np.eye(10)
    centroids = rng.standard_normal((50, 10))

    @jax.jit
    def run(key):
        keys = jax.random.split(key, _CHAINS)
        metric = metric_of_factors(
            jnp.asarray(centroids, jnp.float32), jnp.asarray(factors, jnp.float32), 1.5, 1e-3
        )
        start = random_centroids(keys, metric)
        made = sample_by_hmc(keys, metric, start, transitions=30, step_size=step_size)
        return made.acceptance.mean()

    return float(run(jax.random.key(0)))


def oracle_claims() -> tuple[tuple[Claim, ...], str, float]:
    """Claims, their table and the seconds."""
    started = time.perf_counter()
    drifts = energy_drifts()
    found = {d: {s: variance(d, s) for s in ("hmc", "exact", "none")} for d in VARIANCES}
    agreement = max(abs(x["exact"] / x["hmc"] - 1) for x in found.values())
    truth = max(abs(x[s] / VARIANCES[d][0] - 1) for d, x in found.items() for s in ("hmc", "exact"))
    wrong = max(abs(x["none"] / VARIANCES[d][1] - 1) for d, x in found.items())
    ratio = drifts["rk4", 20]
    accepted = {size: acceptance(size) for size in (0.01, 0.05, 0.1)}
    claims = (
        _at_most("one centroid: corrected walk against HMC, variance, relative", agreement, 0.1),
        _at_most("one centroid: both against the integral, variance, relative", truth, 0.1),
        _at_most("one centroid: walk without correction off its known bias, relative", wrong, 0.1),
        Claim(
            "HMC: acceptance, d = 10, 15 steps of 0.05",
            ">= 0.99",
            accepted[0.05],
            None,
            accepted[0.05] >= 0.99,
        ),
        _at_most("energy drift of the default integrator, RK4 of 20 steps", ratio, 1e-3),
    )
    lines = [
        "Variance of a coordinate, one centroid (exact value in brackets):",
        "",
        "| d | HMC | walk, exact correction | walk, no correction (its known value) |",
        "|---|---|---|---|",
        *(
            f"| {d} ({VARIANCES[d][0]:.3f}) | {x['hmc']:.3f} | {x['exact']:.3f} "
            f"| {x['none']:.3f} ({VARIANCES[d][1]:.3f}) |"
            for d, x in found.items()
        ),
        "",
        "Acceptance of HMC, d = 10, T = 1.5, 15 leapfrog steps of "
        + ", ".join(f"{size:g}: {rate:.3f}" for size, rate in accepted.items())
        + " (the published gradient without the trace: 0.72, 0.09, 0.005).",
        "",
        "Largest relative drift of H, 64 shots of length 1 among 30 centroids, float64 (in "
        "brackets that of the specification's centroids):",
        "",
        "| " + " | ".join(f"{name} {steps}" for name, steps in drifts) + " |",
        "|" + "---|" * len(drifts),
        "| "
        + " | ".join(
            f"{x:.1e}" + (f" ({DRIFTS[k]:.0e})" if k in DRIFTS else "") for k, x in drifts.items()
        )
        + " |",
    ]
    return claims, "\n".join(lines), time.perf_counter() - started


def _at_most(name: str, measured: float, most: float) -> Claim:
    return Claim(name, f"<= {most:g}", measured, None, bool(measured <= most))
