"""Transformers: identity, inverse, composition, direction, derivatives, determinants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.cpab import cpab_velocity
from jaxmedgen.ops.cpab_tessellation import Tessellation, nodal_basis, svd_basis, vertices
from jaxmedgen.ops.deformable_transformers import CPAB, Geodesic, IntegratedOffsets, transformer
from jaxmedgen.ops.field_measures import jacobian_determinant
from jaxmedgen.ops.fields import identity_grid
from jaxmedgen.ops.resample import resample
from jaxmedgen.ops.transformers import Affine, Composition

# name: (scale of the parameters, inverse consistency in voxels: mean, largest)
FAMILIES = {
    "affine": (0.1, 1e-5, 1e-4),
    "affine_decomposed": (0.1, 1e-5, 1e-4),
    "affinediff": (0.1, 1e-5, 1e-4),
    "rigid": (0.2, 1e-5, 1e-4),
    "cpab": (0.05, 5e-3, 0.05),
    "cpab_free": (0.05, 5e-3, 0.05),
    "cpab_volume": (1.0, 5e-3, 0.05),
    "svf": (1.0, 0.01, 0.3),
    "geodesic": (1.0, 0.02, 0.3),
    "offsets": (0.12, 0.02, 0.2),
    "affinediff+svf": (0.1, 0.01, 0.3),
}


def drawn(name, shape, scale, count=2):
    """The family and some parameters."""
    family = transformer(name, len(shape), grid=6, steps=50 if "cpab" in name else None)
    size = family.size(shape)
    parameters = scale * np.random.default_rng(1).normal(size=(count, size))
    return family, jnp.asarray(parameters, jnp.float32)


@pytest.mark.parametrize(("name", "shape"), [
    *((name, (24, 20)) for name in FAMILIES),
    *((name, (12, 11, 10)) for name in ("rigid", "affinediff+svf")),
])  # fmt: skip
def test_family(name, shape):
    """Zero is the identity, the inverse undoes the map, space does not fold."""
    scale, mean, largest = FAMILIES[name]
    family, parameters = drawn(name, shape, scale)
    count = 1 if name == "geodesic" else 2  # zero parameters in the same batch, for one program
    both = np.concatenate([parameters[:count], np.zeros_like(parameters[:1])])

    @jax.jit
    def look(parameters):
        there, back = family.pair(parameters, shape)
        round_trip = family.move(parameters, there, shape, inverse=True)
        grid = identity_grid(shape)
        determinant = jacobian_determinant(there - grid)
        return there - grid, back - grid, round_trip - grid, determinant

    moved, back, round_trip, determinant = map(np.asarray, look(jnp.asarray(both)))
    np.testing.assert_allclose([moved[-1], back[-1]], 0, atol=1e-4)
    inner = (slice(None), *(slice(4, -4) for _ in shape))
    error = np.linalg.norm(round_trip[inner], axis=-1)
    assert error.mean() < mean and error.max() < largest
    assert np.abs(moved).max() > 0.3
    assert determinant.min() > 0


def test_direction_of_map_and_inverse():
    """A blob that T moves to the right is back where it was after T^-1, and nowhere else."""
    grid = identity_grid((21, 21))
    blob = jnp.exp(-((grid - 10.0) ** 2).sum(-1) / 8)[None, ..., None]
    family = Affine()
    # Output at p shows the input at p + (0, -4): content moves by +4 along axis 1.
    parameters = jnp.array([[0.0, 0, 0, 0, 0, -0.4]])

    @jax.jit
    def look(parameters):
        there, back = family.pair(parameters, (21, 21))
        moved = resample(blob, there)
        return moved, resample(moved, back)

    moved, undone = map(np.asarray, look(parameters))
    assert np.unravel_index(moved.argmax(), (1, 21, 21, 1))[1:3] == (10, 14)
    np.testing.assert_allclose(undone[:, :, 2:-6], blob[:, :, 2:-6], atol=2e-3)


def test_affine_inverse_is_not_component_wise():
    """(A^-1, -b), the reference implementation's, would be off by 0.3 of half an image here."""
    parameters = jnp.array([[0.5, 0.0, 0.6, 0.0, 0.0, 0.0]])
    points = jnp.array([[[3.0, 4.0], [10.0, 2.0]]])
    family = Affine()
    moved = family.move(parameters, points, (21, 21))
    np.testing.assert_allclose(moved[..., 0], (points[..., 0] - 10) * 1.5 + 10 + 6, rtol=1e-5)
    back = family.move(parameters, moved, (21, 21), inverse=True)
    np.testing.assert_allclose(back, points, atol=1e-5)


def test_composition_moves_points_through_the_second_map_first():
    shape = (16, 16)
    one, first = drawn("affinediff", shape, 0.2)
    two, second = drawn("rigid", shape, 0.3)
    whole = Composition(one, two)
    both = jnp.concatenate([first, second], -1)
    points = identity_grid(shape)[None]
    expected = one.move(first, two.move(second, points, shape), shape)
    np.testing.assert_allclose(whole.coordinates(both, shape), expected, atol=1e-5)


def test_ramp_leaves_the_linear_part():
    shape = (16, 16)
    family, parameters = drawn("affinediff+svf", shape, 0.3)
    ramped = family.ramped(parameters, shape, 0.0)
    np.testing.assert_array_equal(ramped[:, :6], parameters[:, :6])
    assert not ramped[:, 6:].any()


@pytest.mark.parametrize(
    ("cells", "dimension"),
    [((2, 2), 14), ((2, 4), 30), ((3, 3), 34), ((4, 4), 62), ((2, 2, 2), 27), ((3, 3, 3), 96)],
)
def test_cpab_dimensions_of_the_sheet(cells, dimension):  # fmt: skip
    assert CPAB(cells).size((32,) * len(cells)) == dimension


def test_variants_of_cpab_move_the_border_or_keep_volumes():
    """With the border kept, its points slide; the last family has determinant 1 where smooth."""
    shape, edge = (25, 25), jnp.array([[[0.0, 7.0], [24.0, 13.0]]])
    for name, kept in (("cpab", True), ("cpab_volume", True), ("cpab_free", False)):
        family, parameters = drawn(name, shape, 1.0 if name == "cpab_volume" else 0.05)
        moved = np.asarray(family.move(parameters, edge, shape))
        assert np.allclose(moved[..., 0], edge[..., 0], atol=1e-4) == kept, name
        assert np.abs(moved[..., 1] - edge[..., 1]).max() > 0.05
        # Bounded parameters move no vertex by more than half of the image a unit of time.
        wide = family.bounded(1e3 * jnp.eye(family.size(shape)), shape)
        corners = jnp.asarray(vertices(family.space)[None], jnp.float32)
        velocity = cpab_velocity(wide, corners, family.space, basis=family.basis)
        np.testing.assert_allclose(np.abs(velocity).max(), 0.5, rtol=1e-4)
    family, parameters = drawn("cpab_volume", shape, 1.0)
    field = np.asarray(family.coordinates(parameters, shape) - identity_grid(shape))
    determinant = np.asarray(jacobian_determinant(jnp.asarray(field)))
    # Central differences across cells are not exact: the mean volume is.
    np.testing.assert_allclose(np.median(determinant), 1, atol=0.01)
    loose = np.asarray(jacobian_determinant(drawn_field("cpab", shape, 0.05)))
    assert np.abs(loose - 1).mean() > 3 * np.abs(determinant - 1).mean()


def drawn_field(name, shape, scale):
    family, parameters = drawn(name, shape, scale)
    return family.coordinates(parameters, shape) - identity_grid(shape)


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 32)])
def test_cpab_inverse_consistency_of_the_sheet(shape):
    """0.002 to 0.005 voxel for theta ~ N(0, 1) of the orthonormal basis on a side of 32."""
    cells = (2, 4) if len(shape) == 2 else (2, 2, 2)
    family = CPAB(cells, basis="svd")
    theta = jax.random.normal(jax.random.key(0), (2, family.size(shape)))
    points = jax.random.uniform(jax.random.key(1), (1, 400, len(shape))) * 31

    @jax.jit
    def there_and_back(theta):
        moved = family.move(theta, points, shape)
        return moved, family.move(theta, moved, shape, inverse=True)

    moved, back = there_and_back(theta)
    assert np.linalg.norm(moved - points, axis=-1).mean() > 1
    assert 1e-4 < np.linalg.norm(back - points, axis=-1).mean() < 0.01
    # Both bases span one space: the map of a parameter vector is the same in the other basis.
    tessellation = Tessellation(cells)
    nodal = np.linalg.lstsq(nodal_basis(tessellation), svd_basis(tessellation), rcond=None)[0]
    same = CPAB(cells).move(jnp.asarray(theta @ nodal.T, jnp.float32), points, shape)
    np.testing.assert_allclose(same, moved, atol=2e-3)


@pytest.mark.parametrize("name", ["affinediff+rigid", "cpab", "svf", "offsets"])
def test_gradients_are_finite_differences(name):
    shape = (12, 12)
    family, parameters = drawn(name, shape, 0.05, count=1)
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(*shape, 2)).astype(np.float32)

    def loss(parameters):
        return (jnp.sin(0.3 * family.coordinates(parameters, shape)) * weights).sum()

    direction = rng.normal(size=parameters.shape).astype(np.float32)
    step = 3e-3 / np.abs(direction).max()

    @jax.jit
    def both(parameters):
        ends = [loss(parameters + sign * step * direction) for sign in (1, -1)]
        return (jax.grad(loss)(parameters) * direction).sum(), (ends[0] - ends[1]) / (2 * step)

    slope, difference = both(parameters)
    np.testing.assert_allclose(slope, difference, rtol=0.02)


def test_geodesic_pair_is_one_shot():
    shape = (20, 20)
    family, parameters = drawn("geodesic", shape, 1.5)
    assert isinstance(family, Geodesic)

    @jax.jit
    def look(parameters):
        alone = [family.coordinates(parameters, shape, inverse=i) for i in (False, True)]
        return family.pair(parameters, shape), tuple(alone)

    pair, alone = look(parameters)
    np.testing.assert_allclose(pair, alone, atol=1e-5)


def test_offsets_keep_order_and_ends():
    family, parameters = (
        IntegratedOffsets((5, 5)),
        2 * jax.random.normal(jax.random.key(0), (1, 50)),
    )
    x = family.coordinates(parameters, (16, 12))[0]
    assert (np.diff(x[..., 0], axis=0) > 0).all() and (np.diff(x[..., 1], axis=1) > 0).all()
    np.testing.assert_allclose(x[-1, :, 0], 15, atol=1e-4)
    np.testing.assert_allclose(x[:, 0, 1], 0, atol=1e-6)


def test_wrong_parameters_are_refused():
    with pytest.raises(ValueError, match=r"take \[b, 6\]"):
        transformer("affinediff", 2).coordinates(jnp.zeros((1, 12)), (8, 8))
    with pytest.raises(ValueError, match="choose from affine, "):
        transformer("affin", 2)
