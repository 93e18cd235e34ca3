"""Surface distances against analytic shapes, scikit-image and brute force."""

import numpy as np
import pytest
import skimage.measure
import skimage.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxmedgen.metrics import surface_distance


def _ball(radius, size, spacing=(1.0, 1.0, 1.0)):
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size, spacing)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    return np.sum(grid**2, axis=0) <= radius**2


def _mesh(mask, spacing):
    """Triangle middles and areas of one marching-cubes mesh of the whole mask."""
    vertices, faces, *_ = skimage.measure.marching_cubes(
        np.pad(mask, 1).astype(float), 0.5, spacing=spacing
    )
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return (a + b + c) / 3, np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 2.0, 3.0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shifted_cube_is_as_far_as_its_shift(axis, spacing):
    cube = np.zeros((16, 16, 16), bool)
    cube[4:9, 4:9, 4:9] = True
    shifted = np.roll(cube, 3, axis)
    found = surface_distance.surface_distances(shifted, cube, spacing)
    assert found.hausdorff() == pytest.approx(3 * spacing[axis])
    assert found.average() < 3 * spacing[axis]
    assert surface_distance.surface_distances(cube, cube, spacing).hausdorff() == 0


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.0, 2.0)])
def test_concentric_balls_are_as_far_as_their_radii(spacing):
    size = tuple(int(40 / s) for s in spacing)
    small, large = _ball(10, size, spacing), _ball(16, size, spacing)
    found = surface_distance.surface_distances(small, large, spacing)
    assert found.average() == pytest.approx(6, rel=0.04)
    assert found.hausdorff(95) == pytest.approx(6, rel=0.06)
    assert found.surface_dice(6 - max(spacing)) < 0.02
    assert found.surface_dice(6 + max(spacing)) == 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.0, 2.0)])
def test_agrees_with_a_mesh_of_the_whole_mask(spacing):
    size = tuple(int(40 / s) for s in spacing)
    one = _ball(15, size, spacing)
    two = np.roll(_ball(12, size, spacing), 2, axis=2)
    found = surface_distance.surface_distances(one, two, spacing)
    (a, a_size), (b, b_size) = _mesh(one, spacing), _mesh(two, spacing)
    between = np.linalg.norm(a[:, None] - b[None], axis=-1)
    average = (between.min(1) @ a_size + between.min(0) @ b_size) / (a_size.sum() + b_size.sum())
    assert found.average() == pytest.approx(average, rel=0.02)
    assert surface_distance.surface_size(one, spacing) == pytest.approx(a_size.sum(), rel=1e-3)


def test_sub_voxel_bias_is_small():
    # Two balls 1.3 mm apart: mean |surface - surface| is 1.3 * E|cos| = 0.65 mm.
    balls = [_ball(15, (40, 40, 40)), None]
    grid = np.stack(np.meshgrid(*[np.arange(40) - 19.5] * 3, indexing="ij"))
    grid[0] -= 1.3
    balls[1] = np.sum(grid**2, axis=0) <= 15**2
    found = surface_distance.surface_distances(*balls, (1, 1, 1))
    assert found.average() == pytest.approx(0.65, rel=0.04)


def test_sizes_are_those_of_the_shapes():
    # Marching cubes on a binary ball overestimates its area by a few percent, as documented for
    # the surfel recipe; a box is exact but for its chamfered edges.
    ball = _ball(15, (40, 40, 40))
    assert surface_distance.surface_size(ball, (1, 1, 1)) == pytest.approx(
        4 * np.pi * 15**2, rel=0.1
    )
    box = np.ones((20, 30), bool)
    assert surface_distance.surface_size(box, (2.0, 0.5)) == pytest.approx(
        2 * (19 * 2.0 + 29 * 0.5) + 4 * np.hypot(1.0, 0.25)
    )


def test_fine_axis_counts_no_more_than_its_surface():
    # The same 20 mm cube on two grids, one 8 times finer along the first axis, against a slab.
    values = []
    for step in (2.0, 0.25):
        cube = np.zeros((int(40 / step), 40, 40), bool)
        cube[int(10 / step) : int(30 / step), 10:30, 10:30] = True
        slab = cube.copy()
        slab[:, 22:] = False
        found = surface_distance.surface_distances(slab, cube, (step, 1.0, 1.0))
        values.append((found.average(), found.hausdorff(95)))
    np.testing.assert_allclose(values[0], values[1], rtol=0.06)


def test_maximum_agrees_with_scikit_image():
    # scikit-image measures between voxel centres: the same up to the voxel's own size.
    one = _ball(9, (40, 40, 40))
    two = np.roll(_ball(5, (40, 40, 40)), 8, axis=1)
    found = surface_distance.surface_distances(one, two, (1, 1, 1)).hausdorff()
    assert found == pytest.approx(skimage.metrics.hausdorff_distance(one, two), abs=1.0)
    # Two single voxels: surfaces are translates of each other, so the distance is exact.
    one, two = np.zeros((2, 20, 20), bool)
    one[2, 2] = two[15, 14] = True
    exact = skimage.metrics.hausdorff_distance(one, two)
    far = surface_distance.surface_distances(one, two, (1, 1)).hausdorff()
    assert exact - np.sqrt(2) <= far <= exact


masks = st.sampled_from([(5, 6), (4, 3, 4)]).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)


@settings(max_examples=20, deadline=None)
@given(masks, st.sampled_from([0.4, 1.0, 3.0]))
def test_against_brute_force(pair, step):
    one, two = pair
    if not (one.any() and two.any()):
        return
    spacing = (step, 1.0, 0.5)[: one.ndim]
    found = surface_distance.surface_distances(one, two, spacing)
    a, b = (surface_distance.surfels(mask, spacing)[0] for mask in (one, two))
    between = np.linalg.norm(a[:, None] - b[None], axis=-1)
    np.testing.assert_allclose(np.sort(found.to_reference), np.sort(between.min(1)), atol=1e-9)
    np.testing.assert_allclose(np.sort(found.to_prediction), np.sort(between.min(0)), atol=1e-9)
    back = surface_distance.surface_distances(two, one, spacing)
    assert back.hausdorff(95) == found.hausdorff(95)
    assert back.average() == pytest.approx(found.average())
    assert found.average() <= found.hausdorff() + 1e-9


def test_weighted_percentile_counts_area():
    distances, sizes = np.array([3.0, 0.0, 1.0]), np.array([0.04, 0.9, 0.06])
    assert surface_distance._weighted_percentile(distances, sizes, 95) == 1.0
    assert surface_distance._weighted_percentile(distances, sizes, 97) == 3.0


def test_empty_mask_is_refused():
    full = np.ones((4, 4), bool)
    with pytest.raises(ValueError, match="prediction mask is empty"):
        surface_distance.surface_distances(~full, full, (1, 1))
