import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.wendland import (
    wendland_c4,
    wendland_control_shape,
    wendland_energy,
    wendland_field,
    wendland_gram,
)


@pytest.mark.parametrize(
    ("shape", "grid", "spacing", "support"),
    [((17, 12), (5, 4), 4, 2.5), ((9, 9), (9, 9), 1, 3), ((11, 9, 10), (3, 3, 4), 5, 2.0)],
)
def test_field_is_the_sum_over_all_control_points(shape, grid, spacing, support):
    rng = np.random.default_rng(0)
    p = rng.normal(size=(2, *grid, 3))
    out = wendland_field(
        jnp.asarray(p, jnp.float32), shape, control_spacing=spacing, support=support
    )
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    points = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).astype(float)
    points = (points - (np.asarray(grid) - 1) / 2) * spacing + (np.asarray(shape) - 1) / 2
    difference = voxels.reshape(-1, 1, len(shape)) - points.reshape(1, -1, len(shape))
    r = np.linalg.norm(difference, axis=-1) / (support * spacing)
    psi = np.where(r < 1, (1 - r) ** 6 * (35 * r**2 + 18 * r + 3) / 3, 0)
    expected = np.einsum("xi,bic->bxc", psi, p.reshape(2, -1, 3)).reshape(2, *shape, 3)
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_kernel_is_one_at_zero_and_flat_at_both_ends():
    with jax.enable_x64(True):
        derivative = wendland_c4
        values = []
        for _ in range(5):
            values.append([float(derivative(jnp.asarray(x))) for x in (0.0, 1.0, 1.5)])
            derivative = jax.grad(derivative)
    assert values[0] == [1.0, 0.0, 0.0]
    assert values[1][0] == 0.0 and values[3][0] == 0.0  # even: odd derivatives vanish at 0
    assert np.abs(np.asarray(values)[:, 1:]).max() == 0.0  # four derivatives at the support's end


@pytest.mark.parametrize("grid", [(6, 5), (4, 3, 4)])
def test_gram_matrix_is_positive_definite_and_gives_the_energy(grid):
    gram = wendland_gram(grid, support=2.5)
    np.testing.assert_allclose(gram, gram.T)
    assert np.linalg.eigvalsh(gram).min() > 0
    p = np.random.default_rng(1).normal(size=(2, *grid, 2))
    flat = p.reshape(2, -1, 2)
    expected = np.einsum("bic,ij,bjc->b", flat, gram, flat)
    energy = wendland_energy(jnp.asarray(p, jnp.float32), support=2.5)
    np.testing.assert_allclose(energy, expected, rtol=1e-5)


def test_grid_reaches_the_faces():
    assert wendland_control_shape((64, 65), 8) == (9, 9)
    with pytest.raises(ValueError, match="control_spacing 0"):
        wendland_control_shape((8, 8), 0)
    with pytest.raises(ValueError, match="both need the same number of axes"):
        wendland_field(jnp.zeros((1, 4, 4, 2)), (8, 8, 8), control_spacing=2)
