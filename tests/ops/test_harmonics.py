import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxmedgen.ops.harmonics import (
    clebsch_gordan,
    degree_slice,
    real_clebsch_gordan,
    real_spherical_harmonics,
    real_wigner_matrices,
    real_wigner_matrix,
    solid_harmonics,
    spherical_harmonics,
    wigner_matrix,
)

N = 4
VECTORS = np.random.default_rng(0).normal(size=(30, 3))
ROTATIONS = Rotation.random(3, random_state=0).as_matrix()


def sphere():
    """Points and weights that integrate products of three harmonics of degree 4 exactly."""
    heights, weights = np.polynomial.legendre.leggauss(8)
    azimuth = 2 * np.pi * np.arange(16) / 16
    z, a = np.meshgrid(heights, azimuth, indexing="ij")
    ring = np.sqrt(1 - z**2)
    points = np.stack([ring * np.cos(a), ring * np.sin(a), z], -1)
    return points.reshape(-1, 3), np.repeat(weights, 16) * 2 * np.pi / 16


@pytest.mark.parametrize("harmonics", [spherical_harmonics, real_spherical_harmonics])
def test_harmonics_are_orthonormal_and_live_on_directions(harmonics):
    points, weights = sphere()
    y = harmonics(N, points)
    gram = np.einsum("p,pi,pj->ij", weights, y.conj(), y)
    np.testing.assert_allclose(gram, np.eye((N + 1) ** 2), atol=1e-13)
    np.testing.assert_allclose(harmonics(N, 3 * points), y, atol=1e-13)
    centre = harmonics(N, np.zeros(3))
    assert centre[0] == pytest.approx(np.sqrt(1 / (4 * np.pi))) and not centre[1:].any()


def test_signs_and_order_are_the_usual_ones():
    y = spherical_harmonics(N, VECTORS)
    for n in range(N + 1):
        block = y[:, degree_slice(n)]
        for m in range(-n, n + 1):
            opposite = (-1) ** m * block[:, n + m].conj()
            np.testing.assert_allclose(block[:, n - m], opposite, atol=1e-14)
    a, b, c = VECTORS.T
    solid = solid_harmonics(2, VECTORS)
    first = np.sqrt(3 / (4 * np.pi)) * np.stack([b, c, a], -1)
    np.testing.assert_allclose(solid[:, 1:4], first, atol=1e-13)
    second = np.sqrt(15 / np.pi) * np.stack(
        [a * b / 2, b * c / 2, (2 * c**2 - a**2 - b**2) / 4 / 3**0.5, a * c / 2, (a**2 - b**2) / 4],
        -1,
    )
    np.testing.assert_allclose(solid[:, 4:], second, atol=1e-12)
    np.testing.assert_allclose(y[:, 3], -np.sqrt(3 / (8 * np.pi)) * (a + 1j * b) / _length(VECTORS))


def test_solid_harmonics_are_harmonic():
    h = 1e-3
    value = solid_harmonics(N, VECTORS)
    steps = [solid_harmonics(N, VECTORS + s * h * e) for e in np.eye(3) for s in (1, -1)]
    np.testing.assert_allclose((sum(steps) - 6 * value) / h**2, 0, atol=1e-4)
    assert np.abs(value).max() > 1


@pytest.mark.parametrize("n", range(N + 1))
def test_wigner_matrices_rotate_harmonics_and_multiply_as_rotations_do(n):
    r, s, half_turn = ROTATIONS[0], -ROTATIONS[1], np.diag([-1.0, -1, 1])
    for matrix in (r, s, half_turn, np.eye(3)):
        back = VECTORS @ matrix  # R^-1 v
        for harmonics, wigner in (
            (spherical_harmonics, wigner_matrix),
            (real_spherical_harmonics, real_wigner_matrix),
        ):
            moved = harmonics(n, back)[:, degree_slice(n)]
            expected = harmonics(n, VECTORS)[:, degree_slice(n)] @ wigner(n, matrix)
            np.testing.assert_allclose(moved, expected, atol=1e-13)
    for wigner in (wigner_matrix, real_wigner_matrix):
        product = wigner(n, r) @ wigner(n, s)
        np.testing.assert_allclose(wigner(n, r @ s), product, atol=1e-13)
        np.testing.assert_allclose(product @ product.conj().T, np.eye(2 * n + 1), atol=1e-13)


def test_wigner_matrices_of_all_degrees_stand_in_blocks():
    matrices = real_wigner_matrices(2, ROTATIONS)
    assert matrices.shape == (3, 9, 9)
    # Degree 1 is the vector itself in the order (1, 2, 0).
    order = [1, 2, 0]
    np.testing.assert_allclose(matrices[:, 1:4, 1:4], ROTATIONS[:, order][:, :, order], atol=1e-13)
    assert not matrices[:, :4, 4:].any() and not matrices[:, 0, 1:].any()
    with pytest.raises(ValueError, match="orthogonal"):
        wigner_matrix(1, 2 * np.eye(3))


def test_clebsch_gordan_coefficients_are_the_tabulated_ones():
    # The Particle Data Group's table of 2 x 1, m = 1: rows (2, -1), (1, 0), (0, 1).
    table = {3: (1 / 15, 8 / 15, 6 / 15), 2: (1 / 3, 1 / 6, -1 / 2), 1: (3 / 5, -3 / 10, 1 / 10)}
    for n, squares in table.items():
        coefficients = clebsch_gordan(2, 1, n)
        ours = [coefficients[m1 + 2, 1 - m1 + 1, 1 + n] for m1 in (2, 1, 0)]
        np.testing.assert_allclose(ours, np.sign(squares) * np.sqrt(np.abs(squares)), atol=1e-15)
    joint = np.concatenate([clebsch_gordan(2, 3, n) for n in range(1, 6)], -1).reshape(35, 35)
    np.testing.assert_allclose(joint.T @ joint, np.eye(35), atol=1e-14)
    with pytest.raises(ValueError, match="couple to degrees 1 to 3"):
        clebsch_gordan(2, 1, 0)


def test_products_of_harmonics_integrate_to_clebsch_gordan_coefficients():
    points, weights = sphere()
    y = spherical_harmonics(N, points)
    for n1, n2, n in ((1, 1, 2), (2, 2, 4), (2, 3, 3), (3, 1, 4), (2, 1, 2)):
        a, b, c = (y[:, degree_slice(v)] for v in (n1, n2, n))
        integral = np.einsum("p,pa,pb,pc->abc", weights, a, b, c.conj())
        factor = np.sqrt((2 * n1 + 1) * (2 * n2 + 1) / (4 * np.pi * (2 * n + 1)))
        expected = factor * clebsch_gordan(n1, n2, n)[n1, n2, n] * clebsch_gordan(n1, n2, n)
        np.testing.assert_allclose(integral, expected, atol=1e-13)
        assert (np.abs(expected).max() > 0.05) == ((n1 + n2 + n) % 2 == 0)


@pytest.mark.parametrize("degrees", [(1, 1, 1), (1, 2, 2), (2, 1, 3), (2, 3, 2), (0, 2, 2)])
def test_real_coupling_commutes_with_rotations(degrees):
    table = real_clebsch_gordan(*degrees)
    assert np.sum(table**2) == pytest.approx(2 * degrees[2] + 1)
    first, second, third = (real_wigner_matrix(n, ROTATIONS[2]) for n in degrees)
    together = np.einsum("abc,ai,bj->ijc", table, first, second)
    np.testing.assert_allclose(together, table @ third.T, atol=1e-13)


def _length(vectors):
    return np.linalg.norm(vectors, axis=-1)
