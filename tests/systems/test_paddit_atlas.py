"""Which way an atlas goes, where velocities are constant and maps are whole shifts."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from jaxmedgen.ops.velocity_flows import velocity_flow
from jaxmedgen.systems.deformation.paddit import PLAYER, Paddit
from jaxmedgen.systems.deformation.paddit_atlas import principal_modes
from jaxmedgen.systems.deformation.paddit_em import Sampling

SHAPE = (24, 24)
# Subjects stand so far from the template; their mean and deviation are whole voxels too.
PLACES = np.array([[-1, 2], [1, 2], [3, 2]])


def atlas():
    """A system and variables of a template with a bright, oblique blob, and its label.

    In a band of one frequency velocities are constant, and their exponentials are shifts.
    """
    flow = velocity_flow(SHAPE, parametrisation="band", band=1)
    system = Paddit(
        flow, Sampling(), 3, SHAPE, channels=1, classes=2, compared=(0,),
        rounds=1, map_rounds=1, steps=2, smoothing=0,
    )  # fmt: skip
    hyper = flow.prior.start(2.0)
    unit = float(flow.prior.velocity(jnp.ones((1, 2, 1, 1)), hyper)[0, 0, 0, 0])
    x, y = np.indices(SHAPE) - 11.0
    template = np.exp(-((x - y) ** 2) / 12 - (x + y + 2) ** 2 / 30).astype(np.float32)
    label = template > 0.4
    # I_k(x + u) = I_T(x): a subject that stands at u is brought to the template by looking there.
    draws = np.broadcast_to((PLACES / unit)[:, None, None, :, None, None], (3, 2, 4, 2, 1, 1))
    params = {
        "template": jnp.asarray(template[..., None]),
        "labels": jnp.asarray(np.stack([~label, label], -1), jnp.float32),
        "log_sigma": jnp.log(0.05),
        "prior": hyper,
    }
    variables = {
        "params": params,
        "chains": {"draws": jnp.asarray(draws, jnp.float32)},
        "population": {"variance": jnp.zeros((*SHAPE, 1))},
    }
    return system, {PLAYER: variables}, template, label


def at(image, place):
    """What stands in the middle, standing at `place`."""
    return scipy.ndimage.shift(image, place, order=1, mode="nearest")


def test_the_template_goes_to_the_subjects():
    """Labels predicted for a subject lie on it; new subjects and modes stand where they should."""
    system, variables, template, label = atlas()
    place = (3, -2)
    keys = jax.random.split(jax.random.key(0), 4)

    @jax.jit
    def use(image):
        modes = system.atlas(variables, 1, (-1, 0, 1)).modes
        drawn = system.sample(variables, keys, jnp.zeros((4, *SHAPE), jnp.int32))
        return system.predict(variables, image), drawn, modes

    subject = jnp.asarray(at(template, place), jnp.float32)
    probabilities, (images, labels), modes = use(subject[None, ..., None])
    np.testing.assert_allclose(probabilities[0, ..., 1], at(label * 1.0, place), atol=0.15)
    xi = jax.vmap(lambda key: jax.random.normal(key, (2, 1, 1)))(keys)
    shifts = np.asarray(system.flow.prior.velocity(xi, variables[PLAYER]["params"]["prior"]))
    assert np.abs(shifts).max() > 2
    for image, classes, shift in zip(images, labels, shifts[:, 0, 0]):
        np.testing.assert_allclose(image[..., 0], at(template, shift), atol=1e-4)
        assert ((classes == 1) == (at(label * 1.0, shift) > 0.5)).mean() > 0.99
    # One deviation along the only mode, which has no sign: the places of the first and the last.
    shown = [np.asarray(modes[0, k, ..., 0]) for k in range(3)]
    if shown[0][:12].sum() < shown[2][:12].sum():
        shown = shown[::-1]
    for image, where in zip(shown, PLACES):
        np.testing.assert_allclose(image, at(template, where), atol=1e-4)


def test_modes_are_those_of_the_subjects_covariance():
    """In whitened coordinates, by numpy's eigenvalues of the unbiased covariance."""
    draws = np.random.default_rng(0).normal(1.0, size=(5, 2, 3, 2, 2))
    mean, modes, deviations = jax.jit(principal_modes, static_argnums=1)(jnp.asarray(draws), 3)
    velocity = draws.mean((1, 2)).reshape(5, 4)
    values, vectors = np.linalg.eigh(np.cov(velocity.T))
    np.testing.assert_allclose(mean.ravel(), velocity.mean(0), rtol=1e-5)
    np.testing.assert_allclose(np.square(deviations), values[::-1][:3], rtol=1e-4)
    for mode, value, vector in zip(np.asarray(modes), values[::-1], vectors.T[::-1]):
        along = mode.ravel() @ vector
        np.testing.assert_allclose(mode.ravel(), along * vector, atol=1e-5)
        np.testing.assert_allclose(along**2, value, rtol=1e-4)
