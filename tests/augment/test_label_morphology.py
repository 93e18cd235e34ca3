"""Class-wise morphology: priorities, walls, mass; against grey-value dilation, which is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.augment.label_morphology import RULES, LabelMorphology
from jaxmedgen.data.phantoms.short_axis_stack import ShortAxisStacks
from jaxmedgen.metrics.cardiac import wall_thickness
from jaxmedgen.metrics.plausibility import slice_flags


@pytest.fixture(scope="module")
def hearts():
    """Basal slices of four subjects with a right ventricle each."""
    stacks = ShortAxisStacks(4)
    return np.stack([stacks[i]["label"][1] for i in range(4)])


@pytest.fixture(scope="module")
def changed(hearts):
    """Every rule applied twice: one program."""

    @jax.jit
    def run(label):
        return {kind: LabelMorphology(kind, label=3).apply(label, 2) for kind in RULES}

    return {kind: np.asarray(out) for kind, out in run(jnp.asarray(hearts)).items()}


def area(label, value):
    return (label == value).sum((1, 2))


def test_the_right_ventricle_never_overwrites_muscle(hearts, changed):
    grown = changed["dilate"]
    assert (area(grown, 3) > area(hearts, 3)).all()
    for value in (1, 2):
        np.testing.assert_array_equal(grown == value, hearts == value)
    grey = np.stack([ndimage.grey_dilation(each, footprint=np.ones((3, 3))) for each in hearts])
    assert (area(grey, 2) != area(hearts, 2)).any()  # the largest number wins there


def test_walls_move_one_contour(hearts, changed):
    def thickness(label):
        return np.asarray([wall_thickness(each, (1.0, 1.0)) for each in label])

    for kind, cavity, sign in (
        ("thicken_epi", 0, 1), ("thin_epi", 0, -1), ("thicken_endo", -1, 1), ("thin_endo", 1, -1),
    ):  # fmt: skip
        label = changed[kind]
        np.testing.assert_array_equal(np.sign(area(label, 1) - area(hearts, 1)), cavity)
        assert (sign * (thickness(label) - thickness(hearts)) > 0.3).all(), kind
        assert all(slice_flags(each).enclosed for each in label), kind
        if kind.endswith("endo"):
            np.testing.assert_array_equal(label == 0, hearts == 0)


def test_a_wider_cavity_keeps_the_mass_of_muscle(hearts, changed):
    wider = changed["dilate_mass"]
    np.testing.assert_array_equal(area(wider, 2), area(hearts, 2))
    expected = [ndimage.binary_dilation(each == 1, iterations=2) for each in hearts]
    np.testing.assert_array_equal(wider == 1, expected)
    assert all(slice_flags(each).enclosed for each in wider)


def test_what_blood_loses_becomes_muscle(hearts):
    eroded = np.asarray(LabelMorphology("erode", label=1).apply(jnp.asarray(hearts), 1))
    lost = (hearts == 1) & (eroded != 1)
    assert lost.any() and (eroded[lost] == 2).all()


def test_draws_are_of_their_own_keys(hearts):
    change = LabelMorphology("dilate", label=3, probability=0.5, iterations=(1, 3))
    label = jnp.asarray(hearts[:1].repeat(32, 0))
    keys = jax.random.split(jax.random.key(0), 32)
    run = jax.jit(change)
    made = np.asarray(run(keys, label))
    sizes = set(area(made, 3).tolist())
    assert len(sizes) == 4  # untouched, or once to three times
    assert 8 <= (made == np.asarray(label)).all((1, 2)).sum() <= 24
    np.testing.assert_array_equal(run(keys[::-1], label), made[::-1])


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="kind 'grow'"):
        LabelMorphology("grow")
    with pytest.raises(ValueError, match="priority"):
        LabelMorphology("dilate", label=7)
