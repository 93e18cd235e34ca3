"""Reconstruction losses against numpy, scipy and finite differences; the exact bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxmedgen.losses import reconstruction as recon

RNG = np.random.default_rng(0)
X = (RNG.uniform(size=(3, 4, 5, 2)) > 0.5).astype(np.float32)
LOGITS = RNG.normal(size=X.shape).astype(np.float32) * 3
ONE_HOT = np.eye(2, dtype=np.float32)[X[..., 0].astype(int)]


def expected(kind):
    difference = X - LOGITS
    p = special.softmax(LOGITS, -1)
    if kind == "l2_norm":
        return np.sqrt((difference**2).sum((1, 2, 3)))
    if kind == "l2_sq":
        return (difference**2).sum((1, 2, 3))
    if kind == "l1":
        return np.abs(difference).sum((1, 2, 3))
    if kind == "bce":
        return -stats.bernoulli(special.expit(LOGITS)).logpmf(X).sum((1, 2, 3))
    if kind == "ce":
        return -(ONE_HOT * np.log(p)).sum((1, 2, 3))
    overlap, volume = (p * X).sum((1, 2)), (p + X).sum((1, 2))
    return 1 - (2 * overlap / volume).mean(-1)


def test_every_kind_and_reduction_is_numpys():
    data = (jnp.asarray(X), jnp.asarray(ONE_HOT))

    @jax.jit
    def look(logits):
        return {
            kind: [
                recon.reconstruction_loss(kind, data[kind == "ce"], logits, reduction)
                for reduction in recon.REDUCTIONS
            ]
            for kind in recon.KINDS
        }

    terms = {"l2_sq": 40, "l1": 40, "bce": 40, "ce": 20}
    for kind, (total, mean, each) in look(jnp.asarray(LOGITS)).items():
        np.testing.assert_allclose(each, expected(kind), rtol=1e-4, err_msg=kind)
        np.testing.assert_allclose(total, expected(kind).mean(), rtol=1e-4)
        np.testing.assert_allclose(mean, total / terms.get(kind, 1), rtol=1e-5)
    with pytest.raises(ValueError, match="kind 'best'"):
        recon.reconstruction_loss("best", jnp.asarray(X), jnp.asarray(X))


def test_likelihoods_are_normalised():
    x, out = jnp.asarray(X), jnp.asarray(LOGITS)
    found = recon.log_likelihood("gaussian", x, out, np.log(0.7))
    np.testing.assert_allclose(
        found, stats.norm(LOGITS, 0.7).logpdf(X).sum((1, 2, 3)), rtol=1e-5
    )  # fmt: skip
    found = recon.log_likelihood("laplace", x, out, np.log(0.7))
    np.testing.assert_allclose(
        found, stats.laplace(LOGITS, 0.7).logpdf(X).sum((1, 2, 3)), rtol=1e-5
    )
    np.testing.assert_allclose(
        recon.log_likelihood("bernoulli", x, out), -expected("bce"), rtol=1e-5
    )


def test_squares_are_twice_the_variance_times_a_gaussian():
    """``l2_sq = -2 s^2 log N(x; o, s^2) + constant``: beta = 2 s^2 makes it the bound."""
    s, other = 0.3, jnp.asarray(LOGITS[::-1])
    x, out = jnp.asarray(X), jnp.asarray(LOGITS)
    squares = [recon.reconstruction_loss("l2_sq", x, o, "none") for o in (out, other)]
    densities = [recon.log_likelihood("gaussian", x, o, np.log(s)) for o in (out, other)]
    difference = -2 * s**2 * (densities[0] - densities[1])
    np.testing.assert_allclose(squares[0] - squares[1], difference, rtol=1e-4)


def test_perfect_and_extreme_reconstructions_have_finite_slopes():
    x = jnp.asarray(ONE_HOT)

    @jax.jit
    def slopes(out):
        return [
            jax.grad(lambda o, kind=kind: recon.reconstruction_loss(kind, x, o))(out)
            for kind in recon.KINDS
        ]

    for out in (x, 1e4 * (2 * x - 1), -1e4 * (2 * x - 1)):
        assert all(np.isfinite(g).all() for g in slopes(out))
    empty = jnp.zeros((1, 4, 4, 1))
    assert recon.reconstruction_loss("dice", empty, empty - 50.0) < 1e-3
