"""Sizes of heads, uncertainty and meshes against solids of known size."""

import meshio
import numpy as np
import pytest
from scipy.special import ellipe

from jaxmedgen.data.meshes import surface_mesh, write_mesh
from jaxmedgen.metrics.head import head_biometry, relative_volume_difference
from jaxmedgen.metrics.uncertainty import boundary_band, covers, error_correlation, uncertainty_map
from jaxmedgen.report.surfaces import render_mesh

SPACING = (1.5, 1.25, 2.0)


def ellipsoid(half, shape=(64, 88, 40)):
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    place = (grid - (np.array(shape) - 1) / 2) * SPACING / np.asarray(half)
    return np.linalg.norm(place, axis=-1)


def test_an_ellipsoid_has_its_diameters():
    mask = ellipsoid((35, 44, 30)) < 1
    found = head_biometry(mask, SPACING)
    perimeter = 4 * 44 * ellipe(1 - (35 / 44) ** 2)
    np.testing.assert_allclose(found[:3], (70, 88, perimeter), rtol=0.01)
    np.testing.assert_allclose(found.volume, 4 / 3 * np.pi * 35 * 44 * 30 / 1000, rtol=0.01)
    assert np.isnan(head_biometry(np.zeros_like(mask), SPACING).bpd)
    half = mask.copy()
    half[32:] = False
    np.testing.assert_allclose(relative_volume_difference(half, mask), -0.5, atol=1e-9)
    with pytest.raises(ValueError, match="reference mask is empty"):
        relative_volume_difference(mask, np.zeros_like(mask))


def test_samples_that_vary_where_the_error_is_correlate_with_it():
    rng = np.random.default_rng(0)
    spread = np.zeros((20, 20))
    spread[5:9] = np.linspace(0.05, 0.4, 20)
    samples = 0.5 + spread * rng.standard_normal((400, 20, 20))
    found = uncertainty_map(samples)
    np.testing.assert_allclose(found, spread, atol=0.05)
    assert error_correlation(found, spread) > 0.9
    assert error_correlation(found, spread[::-1].copy()) < 0
    assert np.isnan(error_correlation(np.zeros((4, 4)), np.zeros((4, 4))))
    draws = np.arange(1001) / 1000
    assert covers(draws, 0.051) and covers(draws, 0.949)
    assert not covers(draws, 0.049) and not covers(draws, 0.951)
    square = np.zeros((12, 12), bool)
    square[3:9, 3:9] = True
    assert boundary_band(square, 1).sum() == (36 - 16) + 24
    with pytest.raises(ValueError, match="1 sample"):
        uncertainty_map(samples[:1])


@pytest.mark.parametrize("flip", [1, -1])
def test_a_mesh_is_closed_outward_and_as_large_as_its_solid(tmp_path, flip):
    half = np.array((30, 40, 39.9))  # touches the border of the last axis
    level = 1 - ellipsoid(half)
    affine = np.diag([flip * SPACING[0], *SPACING[1:], 1.0])
    affine[:3, 3] = (10, 20, 30)
    mesh = surface_mesh(level, affine, 0.0, colour=np.abs(level))
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    volume = np.einsum("ij,ij", a, np.cross(b, c)) / 6
    np.testing.assert_allclose(volume, 4 / 3 * np.pi * half.prod(), rtol=0.01)
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    there, back = ({tuple(e) for e in edges[:, order]} for order in ([0, 1], [1, 0]))
    assert there == back
    assert np.median(mesh.values) < 0.05
    for name in ("skull.stl", "skull.vtk"):
        read = meshio.read(write_mesh(tmp_path / name, mesh))
        points = read.points[read.cells_dict["triangle"]]
        np.testing.assert_allclose(points, mesh.vertices[mesh.faces], atol=1e-3)
    np.testing.assert_allclose(read.point_data["value"], mesh.values)
    with pytest.raises(ValueError, match=r"written as \.stl or \.vtk"):
        write_mesh(tmp_path / "skull.obj", mesh)
    with pytest.raises(ValueError, match="no surface at level 9"):
        surface_mesh(level, affine, 9.0)


def test_a_larger_mesh_fills_more_of_the_picture():
    affine = np.diag([*SPACING, 1.0])
    seen = []
    for half in ((15, 15, 15), (30, 30, 30)):
        coarse = (1 - ellipsoid(half))[::2, ::2, ::2]
        picture = render_mesh(surface_mesh(coarse, affine, 0.0), size=80, extent=30)
        seen.append((picture.min(-1) < 250).mean())
    assert seen[0] > 0.02 and 2.5 < seen[1] / seen[0] < 5.5
