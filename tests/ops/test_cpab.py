import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxmedgen.ops import cpab_tessellation as spaces
from jaxmedgen.ops.cpab import (
    cell_index,
    cpab_coordinates,
    cpab_matrices,
    cpab_prior_sample,
    cpab_transform,
    cpab_velocity,
)
from jaxmedgen.ops.cpab_tessellation import Tessellation
from jaxmedgen.ops.fields import identity_grid

SPACES = [Tessellation((5,)), Tessellation((2, 4)), Tessellation((2, 2, 2))]


def _points(axes, count=400, seed=0):
    """Random points, and all corners, edge and face centres of the cube."""
    rng = np.random.default_rng(seed)
    special = np.stack(np.meshgrid(*[[0.0, 0.5, 1.0]] * axes), -1).reshape(-1, axes)
    return np.concatenate([rng.uniform(size=(count, axes)), special])


@pytest.mark.parametrize("space", SPACES)
def test_every_point_lies_in_the_simplex_it_is_looked_up_in(space):
    points = _points(space.axes)
    cells = np.asarray(cell_index(jnp.asarray(points, jnp.float32), space))
    homogeneous = np.append(points, np.ones((len(points), 1)), 1)
    weights = np.einsum("pvk,pk->pv", spaces.barycentric(space)[cells], homogeneous)
    assert weights.min() > -1e-4  # barycentric coordinates in that cell
    # Every cell is found: the tessellation has no cell that the look-up does not know.
    assert set(cells) == set(range(len(spaces.simplices(space))))
    outside = cell_index(jnp.full((1, space.axes), 1.5), space)
    assert int(outside[0]) < len(spaces.simplices(space))


@pytest.mark.parametrize("space", SPACES)
def test_look_up_gives_the_vertex_velocities_and_is_continuous(space):
    rng = np.random.default_rng(1)
    theta = jnp.asarray(rng.normal(size=(1, space.dimension)), jnp.float32)
    # Each A_c must reproduce the velocity at its own vertices whichever cell is asked.
    free = spaces.free_components(space)
    expected = np.where(free >= 0, np.asarray(theta)[0][free], 0.0)
    points = jnp.asarray(spaces.vertices(space), jnp.float32)
    np.testing.assert_allclose(cpab_velocity(theta, points[None], space)[0], expected, atol=1e-5)
    close = np.clip(_points(space.axes), 1e-6, 1 - 1e-6)[None]
    step = cpab_velocity(theta, jnp.asarray(close + 1e-5, jnp.float32), space)
    jump = jnp.abs(step - cpab_velocity(theta, jnp.asarray(close, jnp.float32), space))
    assert float(jump.max()) < 1e-3


def test_flow_in_one_dimension_agrees_with_an_ode_solver():
    space = Tessellation((5,))
    theta = np.asarray([[0.3, -0.2, 0.4, 0.1]])
    nodes = np.array([0, *theta[0], 0])

    def velocity(_, x):
        return np.interp(x, np.linspace(0, 1, 6), nodes)

    x = np.linspace(0, 1, 23)
    expected = solve_ivp(velocity, (0, 1), x, rtol=1e-9, atol=1e-10, max_step=0.01).y[:, -1]
    out = cpab_transform(jnp.asarray(theta, jnp.float32), jnp.asarray(x[None, :, None]), space)
    np.testing.assert_allclose(out[0, :, 0], expected, atol=3e-4)
    assert np.abs(expected - x).max() > 0.1


@pytest.mark.parametrize(
    ("space", "strength", "limit"),
    [
        (Tessellation((2, 4)), 1.0, 0.005),
        (Tessellation((2, 2, 2)), 1.0, 0.005),
        (Tessellation((2, 4)), 2.0, 0.02),
        (Tessellation((2, 2, 2)), 2.0, 0.02),
    ],
)
def test_opposite_parameters_invert_to_the_published_accuracy(space, strength, limit):
    shape = (32,) * space.axes
    rng = np.random.default_rng(2)
    # Normal in every direction of the null space: the same fields on machines whose LAPACK spans
    # that space by other singular vectors.
    basis = spaces.svd_basis(space)
    theta = jnp.asarray(strength * rng.normal(size=(4, len(basis))) @ basis, jnp.float32)
    there = cpab_coordinates(theta, shape, space, basis="svd")
    back = cpab_transform(-theta, there / 31, space, basis="svd") * 31
    error = jnp.linalg.norm(back - identity_grid(shape), axis=-1)
    assert float(error.mean()) < limit
    displacement = there - identity_grid(shape)
    assert float(jnp.abs(displacement).max()) > 0.5
    # The derivative itself: differences over a voxel can change sign where a map this strong bends.
    points = jnp.asarray(_points(space.axes, count=50), jnp.float32)

    def transform(point, theta):
        return cpab_transform(theta[None], point[None, None], space, basis="svd")[0, 0]

    at_points = jax.vmap(jax.jacfwd(transform), (0, None))
    determinants = jnp.linalg.det(jax.vmap(at_points, (None, 0))(points, theta))
    assert 0 < float(determinants.min()) < 0.5 < 2 < float(determinants.max())
    # Nothing leaves the cube: faces slide along themselves.
    for axis in range(space.axes):
        first = jnp.take(displacement[..., axis], 0, axis + 1)
        last = jnp.take(displacement[..., axis], -1, axis + 1)
        assert max(float(jnp.abs(first).max()), float(jnp.abs(last).max())) < 1e-3


def test_both_bases_give_the_same_maps_and_zero_the_identity():
    space = Tessellation((2, 2, 2))
    rng = np.random.default_rng(3)
    svd = rng.normal(size=(2, space.dimension))
    nodal = np.linalg.lstsq(spaces.nodal_basis(space), spaces.svd_basis(space) @ svd.T)[0].T
    points = jnp.asarray(_points(3)[None], jnp.float32)
    one = cpab_transform(jnp.asarray(svd, jnp.float32), points, space, basis="svd")
    other = cpab_transform(jnp.asarray(nodal, jnp.float32), points, space)
    np.testing.assert_allclose(one, other, atol=2e-5)
    assert float(jnp.abs(one - points).max()) > 0.02
    np.testing.assert_allclose(cpab_transform(jnp.zeros((1, 27)), points, space), points, atol=1e-6)


def test_gradient_agrees_with_differences_and_the_sensitivity_equation():
    space = Tessellation((2, 2))
    rng = np.random.default_rng(4)
    with jax.enable_x64(True):
        theta = jnp.asarray(0.2 * rng.normal(size=(1, space.dimension)))
        direction = jnp.asarray(rng.normal(size=theta.shape))
        points = jnp.asarray(rng.uniform(0.1, 0.9, size=(1, 30, 2)))

        def moved(theta, steps=50):
            return cpab_transform(theta, points, space, steps=steps)

        def loss(theta):
            return jnp.sum(jnp.sin(3 * moved(theta)))

        slope = jnp.vdot(jax.grad(loss)(theta), direction)
        numeric = (loss(theta + 1e-6 * direction) - loss(theta - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose(slope, numeric, rtol=1e-6)
        tangent = jax.jvp(lambda t: moved(t, 400), (theta,), (direction,))[1]
        matrices = np.asarray(cpab_matrices(theta, space))[0]
        change = np.asarray(cpab_matrices(direction, space))[0]
        # d/dt s = dA (x, 1) + A[:, :d] s, by the midpoint rule beside the path itself.
        x, s = np.asarray(points)[0], np.zeros((30, 2))
        count = 1000

        def rates(x, s):
            cells = np.asarray(cell_index(jnp.asarray(x), space))
            one = np.append(x, np.ones((30, 1)), 1)[..., None]
            linear = matrices[cells]
            return (linear @ one)[..., 0], (change[cells] @ one + linear[..., :2] @ s[..., None])[
                ..., 0
            ]

        for _ in range(count):
            dx, ds = rates(x, s)
            dx, ds = rates(x + 0.5 / count * dx, s + 0.5 / count * ds)
            x, s = x + dx / count, s + ds / count
        np.testing.assert_allclose(tangent[0], s, atol=5e-3)
        assert np.abs(s).max() > 0.5


def test_volume_preserving_flow_has_determinant_one():
    space = Tessellation((3, 3), volume_preserving=True)
    assert space.dimension > 0
    with jax.enable_x64(True):
        theta = jnp.asarray(np.random.default_rng(5).normal(size=(1, space.dimension)))
        points = jnp.asarray(_points(2, 50)[:50])

        def one(x):
            return cpab_transform(theta, x[None, None], space, basis="svd")[0, 0]

        jacobians = jax.vmap(jax.jacfwd(one))(points)
        np.testing.assert_allclose(jnp.linalg.det(jacobians), 1.0, atol=1e-9)
        assert float(jnp.abs(jax.vmap(one)(points) - points).max()) > 0.01
    with pytest.raises(ValueError, match="have no nodal basis, use basis='svd'"):
        cpab_matrices(jnp.zeros((1, space.dimension)), space)


def test_prior_makes_neighbouring_cells_alike():
    space = Tessellation((4, 4))
    keys = jax.random.split(jax.random.key(0), 2000)
    for basis in ("nodal", "svd"):
        theta = np.asarray(cpab_prior_sample(keys, space, basis=basis, scale=2.0, length=0.3))
        wanted = spaces.smooth_covariance(space, basis=basis, scale=2.0, length=0.3)
        scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
        assert np.abs((np.cov(theta.T) - wanted) / scale).max() < 0.15


def test_wrong_arguments_are_named():
    space = Tessellation((2, 2))
    points = jnp.zeros((1, 3, 2))
    with pytest.raises(ValueError, match="has 14 parameters"):
        cpab_transform(jnp.zeros((1, 13)), points, space)
    with pytest.raises(ValueError, match="the last axis must have size 2"):
        cpab_transform(jnp.zeros((1, 14)), jnp.zeros((1, 3, 3)), space)
    with pytest.raises(ValueError, match="steps 0"):
        cpab_transform(jnp.zeros((1, 14)), points, space, steps=0)
