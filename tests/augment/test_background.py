import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.augment.background import background_shells, soft_distance


def test_soft_distance_is_exact_for_planes_in_mm():
    spacing = (0.5, 2.0)
    half = jnp.broadcast_to(jnp.arange(96)[:, None] < 48, (1, 96, 32))
    distance = soft_distance(half, spacing)[0, :, 16]
    expected = (np.arange(96) - 47.5) * 0.5
    near = np.abs(expected) < 15
    np.testing.assert_allclose(distance[near], expected[near], atol=0.2)


def test_shells_are_nested_and_differ_in_number():
    grid = np.stack(np.meshgrid(*[np.arange(48)] * 2, indexing="ij"), -1)
    inside = np.linalg.norm(grid - 23.5, axis=-1) < 9
    inside = jnp.asarray(np.stack([inside] * 40))
    distance = soft_distance(inside, (1.0, 1.0))
    keys = jax.random.split(jax.random.key(0), 40)
    shells = np.asarray(background_shells(keys, distance, (1.0, 1.0), shells=3))
    assert {0, 1, 2, 3} == set(np.unique(shells))
    numbers = shells.max((1, 2))
    assert len(np.unique(numbers)) == 4  # none to three shells
    ring = np.linalg.norm(grid - 23.5, axis=-1)
    for b in np.flatnonzero(numbers >= 2):
        regions = [ring[(shells[b] == s) & (ring > 9)] for s in range(1, numbers[b] + 1)]
        radii = [region.mean() for region in regions if region.size]
        assert (np.diff(radii) > 0).all()
