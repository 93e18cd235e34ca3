import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.deformation import (
    mirrored,
    random_geodesic,
    random_relative_displacement,
)
from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.spatial import (
    Spatial,
    apply_spatial,
    displacements,
    sample_spatial,
    sampling_coordinates,
)
from jaxmedgen.ops.field_measures import jacobian_determinant
from jaxmedgen.ops.fields import compose, exp_velocity, identity_grid
from jaxmedgen.ops.random_fields import random_velocity
from jaxmedgen.ops.shooting import shoot
from jaxmedgen.ops.sobolev import SobolevMetric, energy, sample_velocity

SHAPE = (24, 20)


def _keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def _field(settings, batch=4, shape=SHAPE):
    (field,) = displacements(settings, sample_spatial(settings, _keys(batch)), shape)
    return np.asarray(field)


@pytest.mark.parametrize("shape", [(32, 28), (20, 18, 16)])
def test_geodesics_do_not_fold_and_reach_their_amplitude(shape):
    spacing = (2.0, 2.5, 3.0)[: len(shape)]
    shoot = jax.jit(lambda keys, rms: random_geodesic(keys, shape, spacing, sigma=10.0, rms=rms))
    u = shoot(_keys(6), jnp.asarray([3.0] * 5 + [0.0]))
    assert float(jacobian_determinant(u).min()) > 0
    size = np.sqrt((np.asarray(u * jnp.asarray(spacing)) ** 2).sum(-1).mean((1, 2)))
    size = size.reshape(6, -1).mean(1)
    # Speed is kept, but paths bend: matter gets 0.8 of the way in 2D, half of it in 3D.
    assert size[5] == 0 and 0.4 * 3.0 < size[:5].mean() < 3.0
    assert float(jnp.abs(u[0] - u[1]).max()) > 0.2, "every key has its own"


def test_geodesics_of_an_energy_are_as_large_at_any_resolution_and_keep_it():
    def moved(size, width):
        spacing = (width, width)
        draw = jax.jit(
            lambda keys: random_geodesic(keys, (size, size), spacing, sigma=10, energy=36)
        )
        return width * float(jnp.sqrt((draw(_keys(24)) ** 2).sum(-1).mean()))

    fine, coarse = moved(80, 1.25), moved(40, 2.5)
    # A quarter of the energy is the mean square of the velocity: 3 mm, 0.8 of it on bent paths.
    assert fine == pytest.approx(coarse, rel=0.15) and 0.6 * 3.0 < coarse < 3.0
    metric = SobolevMetric(alpha=100 / 3, power=3, spacing=(2.5, 2.5))
    start = sample_velocity(_keys(2), (40, 40), metric, mean_energy=200.0)
    end = shoot(start, metric, steps=10, maps=()).velocity
    np.testing.assert_allclose(energy(end, metric), energy(start, metric), rtol=0.01)


def test_stationary_velocities_flow_back():
    v = random_velocity(_keys(2), (40, 40), (1.0, 1.0), sigma=6.0, rms=3.0)
    there, back = exp_velocity(v), exp_velocity(-v)
    both = compose(there, back)[:, 8:-8, 8:-8]
    assert float(jnp.sqrt((both**2).sum(-1).mean())) < 0.05
    assert float(jacobian_determinant(there).min()) > 0


def test_a_locked_spline_grid_does_not_move_the_border():
    settings = Spatial(spacing=(1.0, 2.0), elastic=Draw(7.5, 7.5), elastic_locked=3)
    field = _field(settings)
    border = np.ones(SHAPE, bool)
    border[1:-1, 1:-1] = False
    np.testing.assert_allclose(field[:, border], 0.0, atol=1e-6)
    inner = np.abs(field[:, 8:-8, 6:-6]).max((0, 1, 2))
    assert inner[0] > 1.0 and inner[0] > 1.3 * inner[1], "mm over voxels of 1 and 2 mm"
    assert np.abs(field).max() <= 7.5


def test_smoothed_noise_is_as_strong_as_its_settings_say():
    settings = Spatial(
        spacing=(1.0, 1.0), elastic_noise=Draw(100, 100), elastic_noise_sigma=(5.0, 5.0)
    )
    field = _field(settings, batch=16, shape=(48, 48))[:, 20:-20, 20:-20]
    expected = 100 * 0.577 / (2 * np.sqrt(np.pi) * 5)
    assert field.std() == pytest.approx(expected, rel=0.25)


def test_relative_noise_reaches_the_share_of_its_width():
    scale, strength = jnp.asarray([0.1, 0.2, 0.0]), jnp.asarray([0.5, 0.25, 0.5])
    field = random_relative_displacement(_keys(3), (40, 20), scale=scale, strength=strength)
    largest = np.abs(np.asarray(field)).max((1, 2))
    np.testing.assert_allclose(largest, [[2.0, 1.0], [2.0, 1.0], [0.0, 0.0]], atol=1e-4)


def test_learned_fields_take_part_with_their_probability():
    def sample_field(keys):
        return jnp.ones((keys.shape[0], *SHAPE, 2))

    settings = Spatial(spacing=(1.0, 1.0), sample_field=sample_field, sample_field_p=0.5)
    drawn = sample_spatial(settings, _keys(200))
    field = np.asarray(sampling_coordinates(settings, drawn, SHAPE) - identity_grid(SHAPE))
    on = field[:, 0, 0, 0] == 1
    assert on.mean() == pytest.approx(0.5, abs=0.12) and (field[~on] == 0).all()


def test_a_learned_deformation_looks_at_the_image_last():
    """It is made for the image as it is: what follows moves the deformed image."""
    first = Spatial(
        spacing=(1.0, 1.0), flip_axes=(0, 1), deformation=Draw(2, 2), deformation_sigma=5.0
    )
    slope = jnp.stack(jnp.meshgrid(*map(jnp.arange, SHAPE), indexing="ij"), -1) / 10.0
    field = jnp.asarray([2.0, -1.0]) + slope * jnp.asarray([1.0, 2.0])

    both = dataclasses.replace(
        first, sample_field=lambda keys: jnp.broadcast_to(field, (len(keys), *field.shape))
    )
    drawn = sample_spatial(both, _keys(6))
    assert 0 < np.asarray(drawn["flip"]).mean() < 1
    c = np.asarray(sampling_coordinates(first, drawn, SHAPE))
    at = np.clip(c, 0, np.asarray(SHAPE) - 1)
    expected = c + np.asarray([2.0, -1.0]) + at / 10 * np.asarray([1.0, 2.0])
    np.testing.assert_allclose(sampling_coordinates(both, drawn, SHAPE), expected, atol=1e-3)


def test_affine_maps_happen_jointly():
    settings = Spatial(
        spacing=(1.0, 1.0), rotation=Draw(-15, 15), scale=Draw(0.85, 1.15), affine_p=0.5
    )
    drawn = sample_spatial(settings, _keys(1000))
    turned = np.asarray(drawn["rotation"][:, 0] != 0)
    scaled = np.asarray((drawn["scale"] != 1).all(1))
    np.testing.assert_array_equal(turned, scaled)
    assert turned.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("size", [8, 9])
def test_four_quarter_turns_are_the_identity(size):
    settings = Spatial(spacing=(1.0, 1.0), rotation=Draw(90, 90))
    drawn = sample_spatial(settings, _keys(1))
    start = jax.random.normal(jax.random.key(1), (1, size, size, 1))
    label = (start[..., 0] > 0).astype(jnp.int32)
    image, moved = apply_spatial(settings, drawn, start, label)
    np.testing.assert_allclose(image[0, ..., 0], np.rot90(start[0, ..., 0], -1), atol=1e-5)
    for _ in range(3):
        image, moved = apply_spatial(settings, drawn, image, moved)
    np.testing.assert_allclose(image, start, atol=1e-5)
    assert bool((moved == label).all())


def test_an_image_that_is_the_label_stays_the_label_under_nearest_sampling():
    settings = Spatial(
        spacing=(1.0, 1.0),
        flip_axes=(0, 1),
        rotation=Draw(-30, 30),
        elastic=Draw(4, 4),
        border="reflect",
        image_order=0,
    )
    label = jax.random.randint(jax.random.key(0), (6, *SHAPE), 1, 4)
    image, moved = apply_spatial(
        settings, sample_spatial(settings, _keys(6)), label[..., None] * 1.0, label
    )
    assert bool((image[..., 0] == moved).all()) and bool((moved > 0).all())
    assert bool((moved != label).any())


def test_coordinates_are_mirrored_about_the_outermost_voxels():
    inside = mirrored(jnp.asarray([[[-2.0, 3.0], [5.5, 1.0], [8.0, -7.0]]]), (5, 4))
    np.testing.assert_allclose(inside, [[[2, 3], [2.5, 1], [0, 1]]], atol=1e-6)
    assert inside.shape == (1, 3, 2)
