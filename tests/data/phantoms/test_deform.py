import numpy as np
import scipy.linalg
from scipy import ndimage

from jaxmedgen.data.phantoms import deform
from jaxmedgen.data.phantoms.atlas import subject_grid

GRID = deform.VELOCITY_GRID


def centred():
    x, y, z = np.broadcast_arrays(*GRID.axes())
    return np.stack([x, y - GRID.centre[1], z - GRID.centre[2]], -1)


def test_sample_agrees_with_scipy_inside_and_beyond_the_border():
    rng = np.random.default_rng(0)
    volume = rng.standard_normal((7, 9, 8, 3)).astype(np.float32)
    points = rng.uniform(-2, 10, (500, 3)).astype(np.float32)
    ours = deform.sample(volume, points)
    for k in range(3):
        theirs = ndimage.map_coordinates(volume[..., k], points.T, order=1, mode="nearest")
        np.testing.assert_allclose(ours[:, k], theirs, atol=1e-5)


def test_exponential_of_a_linear_field_is_the_matrix_exponential():
    matrix = np.array([[0.10, 0.12, 0.0], [-0.12, -0.05, 0.04], [0.0, 0.03, 0.06]])
    points = centred() / GRID.spacing[0]
    velocity = (points @ matrix.T).astype(np.float32)
    expected = points @ (scipy.linalg.expm(matrix) - np.eye(3)).T
    middle = (slice(7, 17),) * 3
    error = (deform.exponential(velocity, squarings=8) - expected)[middle]
    assert np.abs(error).max() < 0.01
    # Euler's first step leaves an error that halves with every further squaring.
    errors = [np.abs((deform.exponential(velocity, n) - expected)[middle]).max() for n in (3, 4, 5)]
    np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 2, rtol=0.1)


def test_exponentials_of_opposite_velocities_undo_each_other():
    rng = np.random.default_rng(1)
    velocity = 0.4 * deform.smooth_noise(rng, GRID, 30.0, 3)
    forth, back = deform.exponential(velocity), deform.exponential(-velocity)
    index = np.stack(np.indices(GRID.shape), -1).astype(np.float32)
    again = forth + deform.sample(back, (index + forth).reshape(-1, 3)).reshape(forth.shape)
    inner = (slice(4, 20),) * 3
    assert np.abs(again[inner]).max() < 0.05 < 0.5 < np.abs(forth[inner]).max()


def test_enlarge_reproduces_cubic_fields_on_any_grid():
    target = subject_grid((20, 31, 40), skull=False)
    x, y, z = GRID.axes()
    field = np.broadcast_to(x / 100 + (y / 100) ** 2 - (z / 100) ** 3, GRID.shape)[..., None]
    x, y, z = target.axes()
    expected = x / 100 + (y / 100) ** 2 - (z / 100) ** 3
    np.testing.assert_allclose(deform.enlarge(field, target)[..., 0], expected, atol=1e-4)


def test_smooth_noise_has_unit_variance_and_the_asked_scale():
    noise = deform.smooth_noise(np.random.default_rng(2), GRID, 18.0, 60)
    np.testing.assert_allclose(noise.var(), 1, rtol=0.05)
    # A Gaussian filter of sigma s leaves the autocorrelation exp(-d^2 / 4 s^2).
    shifted = np.roll(noise, 3, axis=0)
    np.testing.assert_allclose((noise * shifted).mean(), np.exp(-(27**2) / (4 * 18**2)), atol=0.03)


def test_modes_share_their_start_and_differ_by_seed():
    six, eight = deform.modes(6, 0), deform.modes(8, 0)
    np.testing.assert_array_equal(six, eight[:6])
    other = deform.modes(6, 1)
    np.testing.assert_array_equal(six[:4], other[:4])
    assert np.abs(six[4:] - other[4:]).max() > 1
    assert deform.modes(0, 0).shape == (0, 24, 24, 24, 3)
