import numpy as np
import pytest

from jaxmedgen.ops import cpab_tessellation as spaces
from jaxmedgen.ops.cpab_tessellation import Tessellation


@pytest.mark.parametrize(
    ("cells", "dimension"),
    [
        ((2, 2), 14),
        ((2, 4), 30),
        ((3, 3), 34),
        ((4, 4), 62),
        ((2, 2, 2), 27),
        ((3, 3, 3), 96),
        ((6,), 5),
    ],
)
def test_dimensions_are_the_published_ones(cells, dimension):
    assert Tessellation(cells).dimension == dimension
    assert spaces.nodal_basis(Tessellation(cells)).shape[1] == dimension


@pytest.mark.parametrize("zero_boundary", [True, False])
@pytest.mark.parametrize("cells", [(4,), (2, 2), (2, 4), (2, 1, 2), (2, 2, 2)])
def test_null_space_and_nodal_basis_span_the_same_velocities(cells, zero_boundary):
    space = Tessellation(cells, zero_boundary=zero_boundary)
    svd, nodal = spaces.svd_basis(space), spaces.nodal_basis(space)
    assert svd.shape == nodal.shape
    np.testing.assert_allclose(svd.T @ svd, np.eye(svd.shape[1]), atol=1e-10)
    assert np.abs(spaces.constraint_matrix(space) @ nodal).max() < 1e-9
    assert np.linalg.matrix_rank(nodal) == nodal.shape[1]


@pytest.mark.parametrize("cells", [(3,), (2, 3), (2, 2, 3)])
def test_cells_fill_the_cube(cells):
    space = Tessellation(cells)
    corners = spaces.vertices(space)[spaces.simplices(space)]
    edges = corners[:, 1:] - corners[:, :1]
    volumes = np.abs(np.linalg.det(edges)) / {1: 1, 2: 2, 3: 6}[len(cells)]
    assert volumes.min() > 1e-3
    assert volumes.sum() == pytest.approx(1.0)
    assert len(np.unique(spaces.vertices(space), axis=0)) == len(spaces.vertices(space))


def test_covariance_stands_for_the_same_velocities_in_both_bases():
    space = Tessellation((2, 3))
    covariances = []
    for basis, matrix in (("nodal", spaces.nodal_basis), ("svd", spaces.svd_basis)):
        small = spaces.smooth_covariance(space, basis=basis, scale=1.5, length=0.2)
        covariances.append(matrix(space) @ small @ matrix(space).T)
    np.testing.assert_allclose(*covariances, atol=1e-9)
    assert np.abs(covariances[0]).max() > 0.1


def test_volume_preservation_removes_dimensions_and_every_trace():
    space = Tessellation((3, 3), volume_preserving=True)
    velocities = spaces.svd_basis(space).T.reshape(-1, 36, 2, 3)
    assert 0 < space.dimension < 34
    assert np.abs(np.trace(velocities, axis1=2, axis2=3)).max() < 1e-9


def test_bad_cells_are_named():
    with pytest.raises(ValueError, match=r"cells \(2, 0\)"):
        Tessellation((2, 0))
