"""Wall thickness on spheres, AHA segments, eigenmaps against a dense solver, Wilson's interval."""

import numpy as np
import pytest
import scipy.linalg

from jaxmedgen.data.phantoms import left_ventricle as lv
from jaxmedgen.metrics import ventricle_wall as wall
from jaxmedgen.metrics.classification import classification_scores, wilson_interval
from jaxmedgen.metrics.laplace_thickness import laplace_thickness
from jaxmedgen.metrics.laplacian_eigenmaps import laplacian_eigenmap


def test_a_spherical_shell_has_its_thickness_everywhere():
    """Soft edges, 2 mm voxels, 5 mm wall: no steps of a voxel."""
    axes = np.meshgrid(*[np.arange(24) * 2.0 - 23.0] * 3, indexing="ij")
    radius = np.sqrt(sum(a**2 for a in axes))
    shell = np.clip(0.5 + (20.0 - radius) / 4, 0, 1) * np.clip(0.5 + (radius - 15.0) / 4, 0, 1)
    surface = wall.wall_surface(shell, (2.0, 2.0, 2.0))
    inside = surface.level < 0.9
    np.testing.assert_allclose(surface.thickness[inside], 5.0, atol=0.4)
    assert surface.faces.max() < len(surface.points)
    with pytest.raises(ValueError, match="encloses"):
        wall.wall_surface(np.zeros((8, 8, 8)), (1.0, 1.0, 1.0))


def test_lines_of_laplace_measure_a_slab_and_a_shell():
    """A slab of 4 voxels of 1.5 mm exactly; a shell between spheres of 8 and 14 mm nearly."""
    depth, row, column = np.indices((10, 6, 6))
    slab = (depth > 2) & (depth < 7)
    middle = (abs(row - 2.5) < 2) & (abs(column - 2.5) < 2)
    found = laplace_thickness(slab & middle, depth <= 2, (1.5, 1.0, 1.0), slab & ~middle)
    np.testing.assert_allclose(found[3:7, 1:5, 1:5], 6.0, atol=1e-6)
    radius = np.sqrt(sum((a - 15.5) ** 2 for a in np.indices((32, 32, 32))))
    shell = laplace_thickness((radius >= 8) & (radius < 14), radius < 8, (1.0, 1.0, 1.0))
    found = shell[np.isfinite(shell)]
    assert abs(np.median(found) - 6.0) < 0.3 and np.quantile(abs(found - 6.0), 0.9) < 1.0
    with pytest.raises(ValueError, match="no thickness"):
        laplace_thickness(radius < 8, radius < 0, (1.0, 1.0, 1.0))


def test_the_thick_septum_shows_in_its_segments():
    well = lv.Ventricle(24, 80, 8, 0.0, (0.0, 0.0), (-40.0, 0.0, 0.0))
    bump = lv.Bump(amplitude=7, angle=0.0, angular_width=0.7, level=0.5, width=0.25)
    sick = lv.Ventricle(**{**vars(well), "septal": bump})
    spacing = (lv.FIELD_OF_VIEW / 40,) * 3
    surfaces = [wall.wall_surface(lv.render_ventricle(v, (40,) * 3)[0], spacing)
                for v in (well, sick)]  # fmt: skip
    means = [wall.segment_means(s) for s in surfaces]
    np.testing.assert_allclose(np.nanmean(means[0][:12]), 8.0, atol=0.8)
    gained = means[1] - means[0]
    # Mid anteroseptal and inferoseptal, but not the wall across.
    assert min(gained[[7, 8]]) > 3.0 and abs(gained[[10, 11]]).max() < 0.5
    difference = np.subtract(*(wall.thickness_map(s) for s in surfaces[::-1]))
    angle, level = wall.map_grid()
    expected = bump.thickness(angle, level).reshape(difference.shape)
    assert np.corrcoef(difference.ravel(), expected.ravel())[0, 1] > 0.9


def test_segments_are_numbered_as_by_the_american_heart_association():
    degrees = np.array([90, 30, -30, -90, -150, 150], float)
    angle = np.deg2rad(degrees)
    assert wall.aha_segments(angle, np.full(6, 0.9)).tolist() == [1, 2, 3, 4, 5, 6]
    assert wall.aha_segments(angle, np.full(6, 0.5)).tolist() == [7, 8, 9, 10, 11, 12]
    quarters = np.deg2rad([90.0, 0.0, -90.0, 180.0])
    assert wall.aha_segments(quarters, np.full(4, 0.2)).tolist() == [13, 14, 15, 16]
    assert wall.aha_segments(quarters, np.zeros(4)).tolist() == [17] * 4


def test_eigenmap_agrees_with_a_dense_solver_and_extends_itself():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(30, 5)), 2.5 + rng.normal(size=(30, 5))])
    found = laplacian_eigenmap(points, 2, 6)
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    near = np.argsort(distance, 1)[:, 1 : found.neighbours + 1]
    graph = np.zeros((60, 60), bool)
    graph[np.arange(60)[:, None], near] = True
    graph |= graph.T
    scale = np.median(np.take_along_axis(distance, near, 1))
    weights = np.where(graph, np.exp(-(distance**2) / (2 * scale**2)), 0)
    degree = weights.sum(1)
    values, vectors = scipy.linalg.eigh(np.diag(degree) - weights, np.diag(degree))
    np.testing.assert_allclose(found.eigenvalues, values[1:3], rtol=1e-4)
    overlap = np.abs(np.einsum("nk,n,nk->k", found.coordinates, degree, vectors[:, 1:3]))
    np.testing.assert_allclose(overlap, 1.0, atol=1e-4)
    # The first coordinate tells the clusters apart, also for points that were not embedded.
    new = np.concatenate([rng.normal(size=(10, 5)), 2.5 + rng.normal(size=(10, 5))])
    first = found.transform(new)[:, 0]
    assert ((first > 0) == (found.coordinates[0, 0] > 0)).tolist() == [True] * 10 + [False] * 10


def test_far_clusters_get_a_connected_graph():
    points = np.concatenate([np.zeros((6, 2)), np.full((6, 2), 50.0)])
    points = points + np.random.default_rng(0).normal(size=(12, 2))
    found = laplacian_eigenmap(points, 1, 3)
    assert found.neighbours >= 6 and np.isfinite(found.coordinates).all()
    assert np.isfinite(found.transform(np.full((1, 2), 1e3))).all()


def test_scores_of_a_classifier():
    """200 right of 200 leave 98.1 % (Wilson); 36 of 40 without false alarms."""
    assert wilson_interval(200, 200)[0] == pytest.approx(0.981, abs=5e-4)
    target = np.repeat([0, 1], 20)
    probability = np.where(target == 1, 0.9, 0.1)
    probability[20:24] = 0.3
    found = classification_scores(probability, target)
    assert (found.accuracy, found.sensitivity, found.specificity) == (0.9, 0.8, 1.0)
    assert found.auc == 1.0
    with pytest.raises(ValueError, match="give 0 and 1"):
        classification_scores(probability, target + 1)
