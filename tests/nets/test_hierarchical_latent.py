"""Latent levels see what they may see; views are dropped as they should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.nets.hierarchical_latent import HierarchicalLatent, level_divergences
from jaxmedgen.nets.plane_encoders import draw_views


def test_levels_depend_on_their_context_and_on_earlier_levels_alone():
    net = HierarchicalLatent((2, 3, 2), hidden=8)
    contexts = [jnp.ones((1, 2)), jnp.ones((1, 3)), jnp.ones((1, 4))]
    noise = jax.random.normal(jax.random.key(1), (1, 7))
    starts = (0, 2, 5, 7)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), contexts, noise, jnp.ones((1, 5))))
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32), shapes
    )
    draw = jax.jit(lambda contexts, noise: net.apply(variables, contexts, noise))
    base, _, ancestral = draw(contexts, noise)
    for other in range(3):
        columns = slice(starts[other], starts[other + 1])
        changed = [c + 0.1 * (k == other) for k, c in enumerate(contexts)]
        for moved in (draw(changed, noise)[0], draw(contexts, noise.at[:, columns].add(0.1))[0]):
            for level in range(3):
                rows = slice(starts[level], starts[level + 1])
                seen = np.abs(moved[:, rows] - base[:, rows]).max() > 0
                assert seen == (other <= level)
    z, posteriors, priors = jax.jit(
        lambda: net.apply(variables, contexts, noise, jnp.ones((1, 5)))
    )()
    assert z.shape == (1, 7) and len(posteriors) == len(priors) == 3
    # Posterior and ancestral draws differ, so priors differ from the second level on.
    np.testing.assert_allclose(priors[0][0], ancestral[0][0])
    assert np.abs(priors[1][0] - ancestral[1][0]).max() > 1e-4
    for kl, q, p in zip(level_divergences(posteriors, priors), posteriors, priors):
        (m, lv), (n, lw) = (tuple(np.asarray(x, np.float64) for x in g) for g in (q, p))
        exact = 0.5 * (np.exp(lv - lw) + (m - n) ** 2 / np.exp(lw) - 1 + lw - lv).sum(-1)
        np.testing.assert_allclose(kl, exact, rtol=1e-5)
    with pytest.raises(ValueError, match="2 contexts for 3 levels"):
        net.init(jax.random.key(0), contexts[:2], noise)


def test_views_are_dropped_from_the_end_or_at_random():
    keys = jax.random.split(jax.random.key(0), 3000)

    @jax.jit
    def draw(keys):
        return [jax.vmap(lambda k, kind=kind: draw_views(k, (2, 0, 1), kind))(keys)
                for kind in ("nested", "any", "none")]  # fmt: skip

    nested, some, every = (np.asarray(x).astype(int) for x in draw(keys))
    sets, counts = np.unique(nested, axis=0, return_counts=True)
    assert {tuple(s) for s in sets} == {(0, 0, 1), (1, 0, 1), (1, 1, 1)}
    np.testing.assert_allclose(counts / 3000, 1 / 3, atol=0.04)
    sets, counts = np.unique(some, axis=0, return_counts=True)
    assert len(sets) == 7 and sets.sum(1).min() == 1
    np.testing.assert_allclose(counts / 3000, 1 / 7, atol=0.03)
    assert every.all()
    with pytest.raises(ValueError, match="view dropout 'often'"):
        draw_views(keys[0], (0, 1), "often")
