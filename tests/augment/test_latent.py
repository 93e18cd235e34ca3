"""Latent deformations: which vector is drawn, what is undone first, image and label together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.augment.latent import LatentAugmentation
from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.ops.transformers import DiffeomorphicAffine

_SHAPE = (24, 24)
_MEANS = jnp.array([[0.0, 0.0], [4.0, 0.0], [0.0, -4.0]])  # shifts in voxels


def decode(z):
    """Shifts by z voxels."""
    zero = jnp.zeros_like(z[:, :1])
    step = 2 / (_SHAPE[0] - 1)
    return jnp.concatenate([zero, zero, step * z[:, :1], zero, zero, step * z[:, 1:]], -1)


def encode(image):
    """The subject's place, read off the image: the blob sits where ``x(p) = x~(p + z)`` puts it."""
    weight = image[..., 0] / image.sum((1, 2, 3))[:, None, None]
    grid = jnp.stack(jnp.meshgrid(*map(jnp.arange, _SHAPE), indexing="ij"), -1)
    place = (weight[..., None] * grid).sum((1, 2))
    return 11.5 - place, jnp.full_like(place, np.log(0.25))


def subject(z):
    """Image and label of a subject with latent z."""
    grid = jnp.stack(jnp.meshgrid(*map(jnp.arange, _SHAPE), indexing="ij"), -1)
    image = jnp.exp(-((grid + z - 11.5) ** 2).sum(-1) / 8)
    return image[None, ..., None], (image > 0.5).astype(jnp.int32)[None]


def augmentation(mode, **settings):
    spread = jnp.full_like(_MEANS, np.log(0.25))
    defaults = {"probability": 1.0} | settings
    return LatentAugmentation(
        encode, decode, DiffeomorphicAffine(), _MEANS, spread, mode, **defaults
    )


def run(transform, z, count=64):
    """Latent vectors of many deformed versions of one subject, and the worst label overlap."""

    @jax.jit
    def deformed(z):
        keys = jax.random.split(jax.random.key(0), count)
        many = [jnp.broadcast_to(x, (count, *x.shape[1:])) for x in subject(z)]
        image, label = transform(keys, *many)
        return encode(image)[0], ((image[..., 0] > 0.5) == (label > 0)).mean()

    found, agreement = map(np.asarray, deformed(jnp.asarray(z)))
    assert agreement > 0.97
    return found


def test_naive_draws_add_the_prior_to_the_subject():
    found = run(augmentation("naive"), (0.0, 0.0), 512)
    np.testing.assert_allclose(found.mean(0), 0, atol=0.15)
    np.testing.assert_allclose(found.std(0), 1, atol=0.12)


def test_instance_draws_stay_near_the_subject():
    found = run(augmentation("instance", temperature=2), (4.0, 0.0), 512)
    np.testing.assert_allclose(found.mean(0), (4, 0), atol=0.15)
    np.testing.assert_allclose(found.std(0), 1, atol=0.12)


def test_mixed_draws_are_other_subjects():
    found = run(augmentation("mixed", temperature=0), (4.0, 0.0))
    nearest = np.argmin(((found[:, None] - np.asarray(_MEANS)) ** 2).sum(-1), -1)
    assert set(nearest) == {0, 2}
    np.testing.assert_allclose(found, np.asarray(_MEANS)[nearest], atol=0.1)
    # A subject that is there twice does not meet itself.
    transform = augmentation("mixed", temperature=0)
    twice = {name: x[jnp.array([0, 1, 1, 2])] for name, x in vars(transform).items() if name in
             ("means", "log_variances")}  # fmt: skip
    own = jnp.broadcast_to(_MEANS[1], (64, 2))
    keys = jax.random.split(jax.random.key(1), 64)
    drawn = dataclasses.replace(transform, **twice).draw(keys, own, jnp.zeros_like(own))
    places = [int(np.argmin(((row - np.asarray(_MEANS)) ** 2).sum(-1))) for row in drawn]
    assert set(places) == {0, 2} and 16 < places.count(0) < 48


def test_dirichlet_weights_stay_in_the_hull():
    transform = augmentation("mixed", blend="dirichlet")
    own = jnp.zeros((64, 2))
    found = jax.jit(transform.draw)(jax.random.split(jax.random.key(0), 64), own, own)
    assert (found[:, 0] >= 0).all() and (found[:, 1] <= 0).all()
    assert (found[:, 0] - found[:, 1] <= 4).all()
    assert found.std(0).min() > 0.5


def test_without_unwarping_the_map_is_added():
    found = run(augmentation("mixed", temperature=0, unwarp=False), (4.0, 0.0))
    assert {tuple(row) for row in np.round(found).astype(int)} == {(4, 0), (4, -4)}


def test_another_appearance_stands_where_the_label_does():
    """A redrawn image, here a brighter blob in the common frame, goes where the label goes."""

    def redraw(keys, image):
        del keys
        return jnp.broadcast_to(3 * subject(jnp.zeros(2))[0], image.shape)

    transform = augmentation("mixed", temperature=0, redraw=redraw)

    @jax.jit
    def deformed(z):
        many = [jnp.broadcast_to(x, (64, *x.shape[1:])) for x in subject(z)]
        return transform(jax.random.split(jax.random.key(0), 64), *many)

    image, label = map(np.asarray, deformed(jnp.array([4.0, 0.0])))
    assert ((image[..., 0] > 1.5) == (label > 0)).mean() > 0.97
    assert image.max() > 2.5
    with pytest.raises(ValueError, match="common frame"):
        augmentation("naive", redraw=redraw)


@pytest.mark.parametrize("redrawn", [False, True])
def test_beyond_the_border_there_is_air_without_a_label(redrawn):
    """By scipy, with a preset and without one alike: linear image, label of the nearest voxel."""
    rng, shift = np.random.default_rng(0), np.array([5.4, -2.7])
    image, label = rng.uniform(1, 2, size=_SHAPE).astype(np.float32), rng.integers(1, 5, _SHAPE)

    def unmoved(x):
        return jnp.zeros((len(x), 2)), jnp.zeros((len(x), 2))

    alone = dataclasses.replace(
        augmentation("mixed", temperature=0),
        encode=unmoved,
        means=jnp.asarray([[0.0, 0.0], shift]),
        log_variances=jnp.zeros((2, 2)),
        redraw=(lambda keys, x: x) if redrawn else None,
    )
    kinds = {None: alone}
    airs = (0.5, -3.0, "min")
    kinds |= {b: dataclasses.replace(alone, policy=Augmentation(background=b)) for b in airs}

    @jax.jit
    def deformed(image, label):
        keys = jax.random.split(jax.random.key(0), 1)
        return [transform(keys, image, label) for transform in kinds.values()]

    found = deformed(jnp.asarray(image)[None, ..., None], jnp.asarray(label, jnp.int32)[None])
    at = np.indices(_SHAPE) + shift[:, None, None]
    classes = ndimage.map_coordinates(label, at, order=0, mode="grid-constant", cval=0)
    assert (classes[-5:] == 0).all() and (classes[:, :2] == 0).all()
    for air, (moved, its_label) in zip(kinds, found):
        fill = image.min() if air in (None, "min") else air
        seen = ndimage.map_coordinates(image, at, order=1, mode="grid-constant", cval=fill)
        np.testing.assert_allclose(moved[0, ..., 0], seen, atol=1e-4)
        np.testing.assert_array_equal(its_label[0], classes)


def test_probability_leaves_samples_as_they_are():
    @jax.jit
    def same(z):
        many = [jnp.broadcast_to(x, (200, *x.shape[1:])) for x in subject(z)]
        keys = jax.random.split(jax.random.key(1), 200)
        moved, _ = augmentation("naive", probability=0.5)(keys, *many)
        return (jnp.abs(moved - many[0]).max((1, 2, 3)) < 1e-6).sum()

    assert 70 < same(jnp.zeros(2)) < 130


def test_one_subject_has_no_other():
    transform = augmentation("mixed")
    with pytest.raises(ValueError, match="two or more"):
        dataclasses.replace(transform, means=_MEANS[:1], log_variances=_MEANS[:1])
    with pytest.raises(ValueError, match="use 0 to 1"):
        augmentation("naive", probability=2.0)
