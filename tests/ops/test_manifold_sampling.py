"""Samplers against quadrature for one centroid; the flow keeps volume and can be turned back.

One centroid, M = I, T = 1, lambda = 1e-4, within 3: the variance of a coordinate is an integral
over the radius. The corrected walk and Hamiltonian Monte Carlo have it, the source's walk has not.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from jaxmedgen.ops import manifold_sampling as ms
from jaxmedgen.ops.riemannian_flow import riemannian_flow, tempering
from jaxmedgen.ops.riemannian_metric import metric_of_factors
from tests.ops.test_riemannian_metric import draw


def one_centroid(d):
    return metric_of_factors(jnp.zeros((1, d)), jnp.eye(d)[None], 1.0, 1e-4)


def exact_variance(d):
    def density(r):
        return r ** (d - 1) * (np.exp(-(r**2)) + 1e-4) ** (d / 2)

    second = quad(lambda r: r**2 * density(r), 0, 3)[0]
    return second / quad(density, 0, 3)[0] / d


@functools.cache
def variance(sampler, d, chains=400, **settings):
    """Of a coordinate over the last half of the chains, and their acceptance."""
    run = {"hmc": ms.sample_by_hmc, "walk": ms.sample_by_random_walk}[sampler]

    @jax.jit
    def draws(key):
        keys = jax.random.split(key, chains)
        metric = one_centroid(d)
        start = ms.random_centroids(keys, metric)
        return run(keys, metric, start, radius=3.0, keep_course=True, **settings)

    made = draws(jax.random.key(0))
    late = np.asarray(made.course)[len(made.course) // 2 :]
    assert (np.asarray(made.distance) < 3.0).all()
    return float((late**2).mean()), float(made.acceptance.mean())


def test_published_variances_are_those_of_the_density():
    for d, expected in ((2, 0.501), (5, 0.200), (10, 0.100)):
        np.testing.assert_allclose(exact_variance(d), expected, atol=2e-3)


def test_samplers_draw_from_the_density_and_the_uncorrected_walk_does_not():
    d = 5
    exact = exact_variance(d)
    hmc, accepted = variance("hmc", d, chains=200, transitions=80, leapfrogs=6, step_size=0.1)
    np.testing.assert_allclose(hmc, exact, rtol=0.05)
    assert accepted > 0.95
    # Walks reach the tails slowly: after 120 transitions a tenth of the variance is missing.
    long = {"deviation": 0.25, "steps": 10, "transitions": 500, "chains": 200}
    corrected, _ = variance("walk", d, **long)
    np.testing.assert_allclose(corrected, exact, rtol=0.1)
    riemannian, _ = variance("walk", d, proposal="metric", **long)
    np.testing.assert_allclose(riemannian, exact, rtol=0.1)
    source, _ = variance("walk", d, correction="none", **long)
    assert source > 1.5 * exact


def test_the_flow_keeps_volume_turns_back_and_is_tempered():
    centroids, factors, z = draw(n=6, d=2, b=3)
    q = np.random.default_rng(2).standard_normal(z.shape)
    roots = tempering(3, 0.3)
    inverse_roots = [(1 - 1 / 0.3) * k**2 / 9 + 1 / 0.3 for k in range(4)]
    np.testing.assert_allclose(roots, 1 / np.array(inverse_roots))
    np.testing.assert_allclose(roots[::3], (0.3, 1.0))

    def pull(z):  # of a quartic potential
        return z**3 + z

    with jax.enable_x64(True):

        @jax.jit
        def run(centroids, factors, z, q):
            metric = metric_of_factors(centroids, factors, 0.8, 1e-2)
            flow = functools.partial(
                riemannian_flow, metric, pull, steps=3, step_size=0.05, iterations=9
            )

            def joint(state, frozen=False):
                moved = flow(state[None, :2], state[None, 2:], frozen=frozen)
                return jnp.concatenate(moved, -1)[0]

            both = jnp.concatenate([z, q], -1)
            volumes = jax.vmap(lambda s: jnp.linalg.det(jax.jacfwd(joint)(s)))(both)
            frozen = jax.vmap(lambda s: jnp.linalg.det(jax.jacfwd(joint)(s, True)))(both)
            z1, q1 = flow(z, q)
            z2, q2 = flow(z1, -q1)
            tempered = flow(z, q / roots[0], tempered=roots[0], step_size=1e-9, iterations=1)[1]
            return volumes, frozen, z1, z2, q2, tempered

        volumes, frozen, z1, z2, q2, tempered = run(centroids, factors, z, q)
    np.testing.assert_allclose(volumes, 1, rtol=1e-7)
    assert np.abs(frozen - 1).max() > 1e-4
    assert np.abs(z1 - z).max() > 0.01
    np.testing.assert_allclose(z2, z, atol=1e-8)
    np.testing.assert_allclose(q2, -q, atol=1e-7)
    # q / sqrt b_0 at first; the product of all ratios is sqrt b_0.
    np.testing.assert_allclose(tempered, q, atol=1e-5)


def test_chains_start_at_centroids_that_count_and_bad_settings_are_refused():
    metric = one_centroid(2)._replace(
        centroids=jnp.asarray([[1.0, 2.0], [1e6, 1e6]]), products=jnp.zeros((2, 2, 2))
    )
    keys = jax.random.split(jax.random.key(0), 20)
    np.testing.assert_array_equal(ms.random_centroids(keys, metric), [[1.0, 2.0]] * 20)
    start = jnp.zeros((20, 2))
    with pytest.raises(ValueError, match="radius=0"):
        ms.sample_by_hmc(keys, metric, start, radius=0)
    with pytest.raises(ValueError, match="correction='some'"):
        ms.sample_by_random_walk(keys, metric, start, correction="some")
    with pytest.raises(ValueError, match="proposal='euclidean'"):
        ms.sample_by_random_walk(keys, metric, start, proposal="euclidean")
    with pytest.raises(ValueError, match=r"tempering from 0 in 3 steps"):
        tempering(3, 0)
