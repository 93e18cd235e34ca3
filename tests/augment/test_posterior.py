"""Deformations by cached velocities, where every velocity is a whole shift: maps are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.posterior import PosteriorAugmentation
from jaxmedgen.ops.velocity_flows import velocity_flow
from jaxmedgen.types import SubjectAugment, augment_for

SHAPE = (12, 12)
# Voxels by which each of two samples of three subjects moves.
SHIFTS = np.array([[[1, 0], [2, 0]], [[0, 1], [0, 2]], [[-3, 0], [-3, -1]]])


def augmentation(mode, probability=1.0):
    """A band of one frequency: velocities are constant, and their exponentials are shifts."""
    flow = velocity_flow(SHAPE, parametrisation="band", band=1)
    hyper = flow.prior.start(2.0)
    unit = flow.prior.velocity(jnp.ones((1, 2, 1, 1)), hyper)[0, 0, 0, 0]
    draws = jnp.asarray(SHIFTS, jnp.float32)[..., None, None] / unit
    return PosteriorAugmentation(flow, hyper, draws, mode, Augmentation(), (1.0, 1.0), probability)


def shifts(mode, case, count=64):
    """Which shifts a subject gets; they are the same at all voxels."""
    keys = jax.random.split(jax.random.key(0), count)
    made = augmentation(mode)
    field = np.asarray(jax.jit(made.displacement)(jnp.full(count, case), keys))
    # In the middle: the compositions of a swap look beyond the border.
    np.testing.assert_allclose(
        field[:, 4:8, 4:8], field[:, 5:6, 5:6] + np.zeros((4, 4, 2)), atol=2e-3
    )
    return {tuple(u) for u in np.round(field[:, 5, 5]).astype(int)}


def pairs(a, b):
    return {tuple(x) for x in (a[:, None] - b[None]).reshape(-1, 2)}


@pytest.mark.parametrize("case", [0, 2])
def test_posterior_draws_are_the_subjects_own(case):
    assert shifts("posterior", case) == {tuple(s) for s in SHIFTS[case]}


def test_cross_draws_are_those_of_all_others():
    assert shifts("cross", 1) == {tuple(s) for k in (0, 2) for s in SHIFTS[k]}


def test_a_swap_goes_to_the_template_and_on_to_another_subject():
    assert shifts("swap", 0) == pairs(SHIFTS[0], SHIFTS[1]) | pairs(SHIFTS[0], SHIFTS[2])


def test_prior_draws_have_its_deviation():
    keys = jax.random.split(jax.random.key(1), 500)
    made = augmentation("prior")
    field = jax.jit(made.displacement)(jnp.zeros(500, jnp.int32), keys)
    np.testing.assert_allclose(field[:, 5, 5].std(0), 2.0, rtol=0.12)


def test_image_and_label_move_together_half_of_the_time():
    """Told the batch's subjects; bit for bit as they were otherwise."""
    made = augmentation("posterior", probability=0.5)
    assert isinstance(made, SubjectAugment)
    label = np.random.default_rng(0).integers(0, 5, SHAPE)
    count, case = 200, 1
    many = jnp.broadcast_to(jnp.asarray(label, jnp.int32), (count, *SHAPE))
    batch = {"image": many[..., None].astype(jnp.float32), "label": many}
    batch["case"] = jnp.full(count, case)
    keys = jax.random.split(jax.random.key(2), count)
    image, moved = jax.jit(lambda b, k: augment_for(made, b)(k, b["image"], b["label"]))(
        batch, keys
    )
    np.testing.assert_allclose(image[..., 0], moved, atol=1e-3)
    same = (np.asarray(moved) == label).all((1, 2))
    assert 70 < same.sum() < 130
    expected = [np.pad(label[:, s:], ((0, 0), (0, s))) for _, s in SHIFTS[case]]
    for one in np.asarray(moved)[~same]:
        assert any((one == e).all() for e in expected)


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(ValueError, match="mode 'crossed' is unknown"):
        augmentation("crossed")
    alone = augmentation("posterior")
    with pytest.raises(ValueError, match="at least two subjects"):
        dataclasses.replace(alone, mode="swap", draws=alone.draws[:1])
