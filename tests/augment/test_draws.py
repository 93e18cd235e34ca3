import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmedgen.augment.draws import Draw, choose, fold_keys, uniform_table


def _values(draw, neutral=0.0, balanced=False):
    table = uniform_table(jax.random.split(jax.random.key(0), 4000), 1, 3)[:, 0]
    return np.asarray(draw(table, 1, neutral=neutral, balanced=balanced))[:, 0]


def test_distributions_are_those_of_scipy():
    uniform = _values(Draw(-1, 3))
    assert stats.kstest(uniform, stats.uniform(-1, 4).cdf).pvalue > 0.01
    log = _values(Draw(np.exp(-0.3), np.exp(0.3), distribution="log_uniform"), 1.0)
    assert stats.kstest(np.log(log), stats.uniform(-0.3, 0.6).cdf).pvalue > 0.01
    normal = _values(Draw(-0.2, 0.6, distribution="normal"))
    assert stats.kstest(normal, stats.norm(0.2, 0.4).cdf).pvalue > 0.01
    balanced = _values(Draw(0.7, 1.5), 1.0, balanced=True)
    assert (balanced < 1).mean() == pytest.approx(0.5, abs=0.03)
    below = balanced[balanced < 1]
    assert stats.kstest(below, stats.uniform(0.7, 0.3).cdf).pvalue > 0.01


def test_a_log_uniform_range_must_be_positive():
    with pytest.raises(ValueError, match="low = 0 of a log_uniform range"):
        Draw(0, 1, distribution="log_uniform")


def test_folded_keys_differ_from_their_origin_and_each_other():
    keys = jax.random.split(jax.random.key(0), 3)
    drawn = [np.asarray(uniform_table(k, 1, 4)) for k in (keys, fold_keys(keys, 1))]
    drawn.append(np.asarray(uniform_table(fold_keys(keys, 2), 1, 4)))
    assert all((a != b).all() for i, a in enumerate(drawn) for b in drawn[:i])


def test_choose_keeps_what_is_off_or_outside_of_the_mask():
    image, changed = jnp.zeros((2, 3, 1)), jnp.ones((2, 3, 1))
    mask = jnp.asarray([[True, False, True]] * 2)
    out = choose(jnp.asarray([True, False]), changed, image, mask)
    np.testing.assert_array_equal(out[..., 0], [[1, 0, 1], [0, 0, 0]])
    assert float(choose(jnp.asarray([True, False]), changed, image).sum()) == 3
