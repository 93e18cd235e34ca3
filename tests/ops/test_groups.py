import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.ops.groups import (
    NAMES,
    act_on_field,
    act_on_image,
    check_spacing,
    coset_action,
    generate,
    left_cosets,
    point_group,
    right_cosets,
    subgroup_indices,
)

ORDERS = {"trivial": 1, "C2": 2, "C4": 4, "V": 4, "D4": 8, "C4h": 8, "C4v": 8, "D4h": 16}
ORDERS |= {"T": 12, "Th": 24, "O": 24, "Oh": 48, "p1": 1, "p2": 2, "p4": 4, "p4m": 8}
ROTATIONS = {"trivial", "C2", "C4", "V", "D4", "T", "O", "p1", "p2", "p4"}


@pytest.mark.parametrize("name", NAMES)
def test_group_has_its_order_and_obeys_the_axioms(name):
    group = point_group(name)
    assert group.order == ORDERS[name] == len(set(group.elements))
    identity = np.arange(group.order)
    np.testing.assert_array_equal(group.matrices[0], np.eye(group.dim))
    product = np.einsum("aij,bjk->abik", group.matrices, group.matrices)
    np.testing.assert_array_equal(group.matrices[group.cayley], product)
    np.testing.assert_array_equal(np.sort(group.cayley, 0), identity[:, None] + 0 * group.cayley)
    np.testing.assert_array_equal(group.cayley[identity, group.inverses], 0)
    assert (set(group.determinants.tolist()) == {1}) == (name in ROTATIONS)
    reached = {0}
    for _ in range(5):  # the octahedral rotations need words of up to five letters
        reached |= {int(group.cayley[s, g]) for s in group.generators for g in reached}
    assert len(reached) == group.order or name == "Oh"


def test_quarter_turns_are_the_published_matrices_about_every_axis():
    turn = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    back = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    expected = [np.eye(3), turn, np.diag([-1, -1, 1]), back]
    np.testing.assert_array_equal(point_group("C4").matrices, expected)
    for axis in range(3):
        group = point_group("C4", axis=axis)
        np.testing.assert_array_equal(group.matrices[:, axis, axis], 1)
        assert group == point_group("C4", axis=axis - 3) and hash(group) == hash(group)
        assert point_group("D4", axis=axis).order == 8
    # Every group of rotations of the grid is one of the signed permutations of determinant 1.
    rows = itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
    cube = [np.eye(3)[list(p)] * np.array(s) for p, s in rows]
    proper = {m.astype(int).tobytes() for m in cube if np.linalg.det(m) > 0}
    assert {m.tobytes() for m in point_group("O").matrices} == proper


def test_spacing_admits_only_groups_that_keep_it():
    assert point_group("C4", axis=0, spacing=(5.0, 1, 1)).order == 4
    assert point_group("V", spacing=(1.0, 2.0, 3.0)).order == 4
    for name, axis in (("O", -1), ("T", -1), ("D4", 2), ("C4", 1)):
        with pytest.raises(ValueError, match="spacing"):
            point_group(name, axis=axis, spacing=(5.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="positive"):
        check_spacing(point_group("p4"), (1.0, 0.0))
    with pytest.raises(ValueError, match="no group"):
        point_group("S4")
    with pytest.raises(ValueError, match="one \\+1 or -1"):
        generate([np.full((3, 3), 1)], dim=3)


def test_cosets_partition_the_group_and_are_moved_as_a_whole():
    group, subgroup = point_group("O"), point_group("D4", axis=1)
    members = subgroup_indices(group, subgroup)
    np.testing.assert_array_equal(group.matrices[members], subgroup.matrices)
    left, right = left_cosets(group, subgroup), right_cosets(group, subgroup)
    for cosets in (left, right):
        assert cosets.shape == (3, 8)
        np.testing.assert_array_equal(np.sort(cosets.ravel()), np.arange(24))
        np.testing.assert_array_equal(cosets[0], members)
    # D4 is not normal in O: left and right cosets differ.
    assert {frozenset(c) for c in left.tolist()} != {frozenset(c) for c in right.tolist()}
    action = coset_action(group, subgroup)
    for g in range(24):
        for r in range(3):
            assert set(group.cayley[g, left[r]]) == set(left[action[g, r]])
    with pytest.raises(ValueError, match="not contained"):
        subgroup_indices(point_group("T"), subgroup)


@pytest.mark.parametrize("size", [(4, 4, 4), (5, 4, 3)])
def test_action_on_images_agrees_with_an_affine_resampling(size):
    x = np.random.default_rng(0).normal(size=(1, *size, 1)).astype(np.float32)
    for matrix in point_group("Oh").matrices:
        moved = np.asarray(act_on_image(jnp.asarray(x), matrix))
        shape = np.abs(matrix) @ size
        assert moved.shape[1:-1] == tuple(shape)
        offset = (np.array(size) - 1) / 2 - matrix.T @ ((shape - 1) / 2)
        expected = ndimage.affine_transform(
            x[0, ..., 0], matrix.T, offset, output_shape=tuple(shape), order=0
        )
        np.testing.assert_array_equal(moved[0, ..., 0], expected)


def test_action_on_fields_is_a_homomorphism():
    group = point_group("O")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 3, 3, 24, 2)), jnp.float32)
    for i, j in ((1, 2), (5, 17), (20, 8)):
        twice = act_on_field(act_on_field(x, group, j), group, i)
        np.testing.assert_array_equal(twice, act_on_field(x, group, int(group.cayley[i, j])))
    image = x[..., 0, :]
    assert (np.asarray(act_on_image(image, group.matrices[1])) != np.asarray(image)).any()
