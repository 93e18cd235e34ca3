"""Mirrored borders against numpy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.padding import mirrored


@pytest.mark.parametrize("pads", [((2, 1), (0, 3)), ((1, 0), (2, 2), (3, 4))])
def test_borders_are_numpys_and_so_are_their_gradients(pads):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *(5 for _ in pads), 3)).astype(np.float32)
    wide = ((0, 0), *pads, (0, 0))
    np.testing.assert_array_equal(mirrored(jnp.asarray(x), pads), np.pad(x, wide, mode="reflect"))
    weights = rng.normal(size=np.pad(x, wide).shape).astype(np.float32)

    def total(pad):
        return jax.grad(lambda x: (pad(x) * weights).sum())(jnp.asarray(x))

    expected = total(lambda x: jnp.pad(x, wide, mode="reflect"))
    np.testing.assert_allclose(total(lambda x: mirrored(x, pads)), expected, rtol=1e-5, atol=1e-6)


def test_too_wide_a_border_is_refused():
    with pytest.raises(ValueError, match="3 voxels cannot be continued"):
        mirrored(jnp.zeros((1, 3, 8, 1)), ((3, 0), (1, 1)))
