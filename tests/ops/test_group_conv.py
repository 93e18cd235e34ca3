import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.ops import group_conv as gc
from jaxmedgen.ops.conv import conv
from jaxmedgen.ops.groups import coset_action, point_group, subgroup_indices

RNG = np.random.default_rng(0)
# Three sizes and kernels spread over all groups; O has them all.
ALL = [("C2", 0, 7, 3), ("C4", 0, 6, 5), ("C4", 1, 8, 1), ("C4", 2, 7, 3), ("V", -1, 6, 3)]
ALL += [("D4", 0, 6, 3), ("C4h", 1, 5, 3), ("C4v", 2, 6, 1), ("D4h", 0, 5, 3), ("T", -1, 6, 3)]
ALL += [("Th", -1, 5, 3), ("Oh", -1, 5, 3), ("p2", -1, 8, 3), ("p4", -1, 7, 5), ("p4m", -1, 6, 3)]
ALL += [("O", -1, size, k) for size, k in ((6, 1), (6, 5), (7, 3), (8, 3))]


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def shown(x, matrix):
    """``x(g^-1 p)`` for an array ``[*space, ...]``, by coordinates."""
    size = np.array(x.shape[: len(matrix)])
    moved_size = np.abs(matrix) @ size
    doubled = 2 * np.moveaxis(np.indices(moved_size), 0, -1) - (moved_size - 1)
    return x[tuple(np.moveaxis((doubled @ matrix + size - 1) // 2, -1, 0))]


def images_moved(x, group):
    """The batch of all ``L_g x`` of the first image."""
    return jnp.asarray(np.stack([shown(np.asarray(x[0]), m) for m in group.matrices]))


def fields_moved(x, group, action=None):
    """The batch of all ``L_g x`` of the first field."""
    x, action = np.asarray(x[0]), group.cayley if action is None else action
    pairs = zip(group.matrices, action[group.inverses])
    return np.stack([shown(x, m)[..., source, :] for m, source in pairs])


def error(outputs, group, action=None):
    """Largest deviation of ``Phi(L_g x)`` from ``L_g Phi(x)``, relative, over all elements."""
    expected, outputs = fields_moved(outputs, group, action), np.asarray(outputs)
    scale = np.abs(outputs[0]).max()
    assert scale > 0.1 and outputs.shape == expected.shape
    return np.abs(expected - outputs).max() / scale


@pytest.mark.parametrize(("name", "axis", "size", "k"), ALL)
def test_convolutions_commute_with_every_element(name, axis, size, k):
    group = point_group(name, axis=axis)
    n, order = group.dim, group.order
    first = normal(*(k,) * n, 1, 2) / k
    second, up = normal(*(k,) * n, order, 2, 1) / k, normal(*(2,) * n, order, 1, 1)

    @jax.jit
    def network(x):
        lifted = gc.lift_conv(x, first, group)
        mixed = gc.group_conv(jax.nn.relu(lifted), second, group)
        grown = gc.group_conv_transpose(jnp.tanh(mixed), up, group)
        return lifted, mixed, grown, gc.group_pool(mixed, "max")

    moved = images_moved(normal(1, *(size,) * n, 1), group)
    lifted, mixed, grown, pooled = network(moved)
    assert lifted.shape == (order, *(size,) * n, order, 2)
    assert grown.shape == (order, *(2 * size,) * n, order, 1)
    for field in (lifted, mixed, grown):
        assert error(field, group) < 1e-5
    expected = images_moved(pooled[:1], group)
    np.testing.assert_allclose(pooled, expected, atol=1e-5 * float(jnp.abs(pooled).max()))


def test_double_precision_is_exact_to_1e_10():
    group = point_group("O")
    with jax.enable_x64(True):
        draw = [jnp.asarray(RNG.normal(size=s)) for s in ((3, 3, 3, 1, 2), (3, 3, 3, 24, 2, 1))]
        image = jnp.asarray(RNG.normal(size=(1, 5, 5, 5, 1)))

        @jax.jit
        def network(x):
            return gc.group_conv(jnp.tanh(gc.lift_conv(x, draw[0], group)), draw[1], group)

        mixed = network(images_moved(image, group))
        assert mixed.dtype == jnp.float64
        assert error(mixed, group) < 1e-10


def test_group_convolution_is_its_definition():
    # Every rotated filter made by scipy, every pair of channels correlated on its own.
    group, size, k = point_group("T"), 5, 3
    x, w = RNG.normal(size=(size,) * 3 + (12,)), RNG.normal(size=(k,) * 3 + (12,))

    def turned(image, matrix):  # image(g^-1 p) about the centre
        centre = np.full(3, (k - 1) / 2)
        return ndimage.affine_transform(image, matrix.T, centre - matrix.T @ centre, order=0)

    ours = gc.group_conv(
        jnp.asarray(x, jnp.float32)[None, ..., None],
        jnp.asarray(w, jnp.float32)[..., None, None],
        group,
    )
    lifted = gc.lift_conv(
        jnp.asarray(x[..., :1], jnp.float32)[None],
        jnp.asarray(w[..., :1], jnp.float32)[..., None],
        group,
    )
    for g in (0, 3, 8, 11):
        matrix = group.matrices[g]
        sources = [int(group.cayley[group.inverses[g], h]) for h in range(12)]
        expected = sum(
            ndimage.correlate(x[..., h], turned(w[..., source], matrix), mode="constant")
            for h, source in enumerate(sources)
        )
        np.testing.assert_allclose(ours[0, ..., g, 0], expected, atol=1e-4)
        expected = ndimage.correlate(x[..., 0], turned(w[..., 0], matrix), mode="constant")
        np.testing.assert_allclose(lifted[0, ..., g, 0], expected, atol=1e-4)


def test_stride_is_exact_where_the_grid_stays_centred_and_refused_elsewhere():
    group = point_group("O")
    w3, w2 = normal(3, 3, 3, 1, 1), normal(2, 2, 2, 1, 1)
    odd = images_moved(normal(1, 7, 7, 7, 1), group)
    assert error(gc.lift_conv(odd, w3, group, stride=2), group) < 1e-5
    even = images_moved(normal(1, 6, 6, 6, 1), group)
    assert error(gc.lift_conv(even, w2, group, stride=2), group) < 1e-5
    assert error(gc.lift_conv(even, w2, group, padding="VALID"), group) < 1e-5
    # What is refused really is far from equivariant.
    kernel = gc.expand_lifting(w3, group)
    broken = conv(even, kernel, stride=2).reshape(24, 3, 3, 3, 24, 1)
    assert error(broken, group) > 0.1
    for weights, stride in ((w3, 2), (w2, 1), (w3, (1, 2, 1))):
        with pytest.raises(ValueError, match=r"off centre|equal steps"):
            gc.lift_conv(even, weights, group, stride=stride)
    # Along the axis of C4 nothing is reversed: any step and size will do there.
    slab, c4 = normal(1, 7, 7, 8, 1), point_group("C4")
    moved = images_moved(slab, c4)
    weights = normal(3, 3, 1, 1, 1)
    assert error(gc.lift_conv(moved, weights, c4, stride=(1, 1, 2)), c4) < 1e-5
    with pytest.raises(ValueError, match="equal sizes"):
        gc.lift_conv(slab, normal(3, 1, 3, 1, 1), c4)


def test_pooling_over_cosets_keeps_the_group_and_restriction_keeps_the_subgroup():
    group, subgroup = point_group("O"), point_group("D4", axis=0)
    x = normal(1, 4, 4, 4, 24, 2)
    moved = jnp.asarray(fields_moved(x, group))
    for reduce in ("mean", "max"):
        pooled = gc.coset_pool(moved, group, subgroup, reduce)
        assert pooled.shape == (24, 4, 4, 4, 3, 2)
        assert error(pooled, group, coset_action(group, subgroup)) < 1e-5
    members = subgroup_indices(group, subgroup)
    for reduce, channels in (("mean", 2), ("max", 2), (None, 6)):
        restricted = gc.restrict(moved[members], group, subgroup, reduce)
        assert restricted.shape == (8, 4, 4, 4, 8, channels)
        assert error(restricted, subgroup) < 1e-5


def test_gradient_of_weights_agrees_with_finite_differences():
    group = point_group("C4v")
    x, w, direction = normal(1, 4, 4, 4, 8, 1), normal(3, 3, 3, 8, 1, 2), normal(3, 3, 3, 8, 1, 2)

    @jax.jit
    def loss(w):  # quadratic, so that wide central differences are exact
        return jnp.mean(gc.group_conv(x, w, group, padding="CIRCULAR") ** 2)

    numeric = float(loss(w + direction) - loss(w - direction)) / 2
    assert float(jnp.vdot(jax.grad(loss)(w), direction)) == pytest.approx(numeric, rel=1e-4)


def test_weights_shared_over_the_group_are_counted_once():
    group = point_group("O")
    weights = normal(3, 3, 3, 24, 2, 4)
    kernel = gc.expand_regular(weights, group)
    assert kernel.shape == (3, 3, 3, 48, 96)
    values, counts = np.unique(np.asarray(kernel), return_counts=True)
    assert values.size == weights.size and set(counts.tolist()) == {24}
    assert jax.vmap(functools.partial(gc.expand_regular, group=group))(weights[None]).shape[0] == 1


def test_wrong_shapes_are_named():
    group = point_group("C4")
    with pytest.raises(ValueError, match="order 4"):
        gc.group_conv(normal(1, 5, 5, 5, 3, 1), normal(3, 3, 3, 3, 1, 1), group)
    with pytest.raises(ValueError, match="acts on 3 axes"):
        gc.lift_conv(normal(1, 5, 5, 1), normal(3, 3, 1, 1), group)
    with pytest.raises(ValueError, match="reduce 'sum'"):
        gc.group_pool.__wrapped__(normal(1, 5, 5, 4, 1), "sum")
