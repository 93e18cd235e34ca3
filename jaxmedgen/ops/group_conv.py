"""Group convolution: filters rotated with the finite groups of `groups.py`, then one convolution.

Fields are ``[b, *space, |G|, c]``. The group acts on them by ``(L_g f)(x, h) = f(g^-1 x, g^-1 h)``,
and every function here commutes with that action; filters are gathered, never interpolated. Add
biases of shape ``[c]``, and normalise over space and group together, to keep it so.

Sources: Cohen & Welling, "Group equivariant convolutional networks", 2016; Worrall & Brostow,
"CubeNet: equivariance to 3D rotation and translation", 2018.
"""

import functools
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxmedgen.ops.conv import Padding, conv, conv_transpose
from jaxmedgen.ops.groups import Group, left_cosets, right_cosets

Reduce = Literal["mean", "max"]


def lift_conv(
    x: Float[Array, " b *s ci"],
    weights: Float[Array, "*k ci co"],
    group: Group,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
) -> Float[Array, " b *s2 g co"]:
    """From images to a field: ``y(x, g) = sum_c,p f_c(x + p) w_c(g^-1 p)``.

    Args:
        x: images.
        weights: filters ``[*taps, ci, co]``; `co` counts channels per group element.
        group: the group.
        stride: step of the output grid.
        padding: as in `conv`.

    Raises:
        ValueError: the taps or the sampled grid are not symmetric under the group.
    """
    _check_grid(group, x.shape[1:-1], weights.shape[:-2], stride, padding)
    y = conv(x, expand_lifting(weights, group), stride=stride, padding=padding)
    return y.reshape(*y.shape[:-1], group.order, -1)


def group_conv(
    x: Float[Array, " b *s g ci"],
    weights: Float[Array, "*k g ci co"],
    group: Group,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
) -> Float[Array, " b *s2 g co"]:
    """From field to field: ``y(x, g) = sum_h,c,p f_c(x + p, h) w_c(g^-1 p, g^-1 h)``.

    Args:
        x: field.
        weights: filters ``[*taps, |G|, ci, co]``; also with one tap they mix the group axis.
        group: the group.
        stride: step of the output grid. Strides above 1 need a grid that stays centred: odd sizes
            for odd kernels, even sizes for ``k = s = 2``.
        padding: as in `conv`.

    Raises:
        ValueError: the taps or the sampled grid are not symmetric under the group.
    """
    _check_field(x, weights, group)
    _check_grid(group, x.shape[1:-2], weights.shape[:-3], stride, padding)
    flat = x.reshape(*x.shape[:-2], -1)
    y = conv(flat, expand_regular(weights, group), stride=stride, padding=padding)
    return y.reshape(*y.shape[:-1], group.order, -1)


def group_conv_transpose(
    x: Float[Array, " b *s g ci"], weights: Float[Array, "*k g ci co"], group: Group
) -> Float[Array, " b *s2 g co"]:
    """Upsampling whose kernel is as wide as its stride; exactly equivariant for every size.

    ``y(s x + p, g) = sum_h,c f_c(x, h) w_c(g^-1 p, g^-1 h)``, taps `p` turned about their own
    centre.

    Args:
        x: field.
        weights: filters ``[*factors, |G|, ci, co]``; the factors by which the axes grow.
        group: the group.
    """
    _check_field(x, weights, group)
    flat = x.reshape(*x.shape[:-2], -1)
    y = conv_transpose(flat, expand_regular(weights, group))
    return y.reshape(*y.shape[:-1], group.order, -1)


def group_pool(x: Float[Array, " b *s g c"], reduce: Reduce = "mean") -> Float[Array, " b *s c"]:
    """Mean or maximum over the group: images that turn as images do."""
    return _reduce(x, reduce)


def coset_pool(
    x: Float[Array, " b *s g c"], group: Group, subgroup: Group, reduce: Reduce = "mean"
) -> Float[Array, " b *s r c"]:
    """Pools over the cosets ``gH``: a field on ``G / H``, equivariant under all of ``G``.

    The group permutes its axis as `groups.coset_action` says.

    Args:
        x: regular field on `group`.
        group: the group ``G``.
        subgroup: the group ``H`` that is forgotten.
        reduce: mean or maximum over each coset.
    """
    return _reduce(jnp.take(x, left_cosets(group, subgroup), axis=-2), reduce)


def restrict(
    x: Float[Array, " b *s g c"],
    group: Group,
    subgroup: Group,
    reduce: Reduce | None = "mean",
) -> Float[Array, " b *s h c2"]:
    """A regular field on the subgroup: equivariant under ``H`` only, from there on.

    ``y(x, h) = reduce_r f(x, h g_r)`` over the representatives of the cosets ``H g_r``.

    Args:
        x: regular field on `group`.
        group: the group ``G``.
        subgroup: the group ``H`` that is kept.
        reduce: mean or maximum over the representatives, or None to keep all as channels, ordered
            (representative, channel): nothing is lost.
    """
    split = jnp.take(x, right_cosets(group, subgroup).T, axis=-2)  # [b, *s, h, r, c]
    if reduce is None:
        return split.reshape(*split.shape[:-2], -1)
    return _reduce(split, reduce)


def expand_lifting(weights: Float[Array, "*k ci co"], group: Group) -> Float[Array, "*k ci gco"]:
    """Kernel ``K[p; c, (g, o)] = w[g^-1 p; c, o]`` of a lifting convolution, one gather."""
    *taps, ci, co = weights.shape
    kernel = jnp.take(
        weights.reshape(-1, ci, co), lifting_table(group, tuple(taps)), 0, mode="clip"
    )
    return jnp.moveaxis(kernel, 1, 2).reshape(*taps, ci, -1)


def expand_regular(weights: Float[Array, "*k g ci co"], group: Group) -> Float[Array, "*k gci gco"]:
    """Kernel ``K[p; (h, c), (g, o)] = w[g^-1 p; g^-1 h, c, o]`` of a group convolution."""
    *taps, order, ci, co = weights.shape
    kernel = jnp.take(
        weights.reshape(-1, ci, co), regular_table(group, tuple(taps)), 0, mode="clip"
    )
    return jnp.moveaxis(kernel, 2, 3).reshape(*taps, order * ci, -1)


@functools.cache
def lifting_table(group: Group, taps: tuple[int, ...]) -> Int[np.ndarray, "t g"]:
    """``table[p, g]`` is the flat index of the tap ``g^-1 p``, about the centre of the taps.

    Args:
        group: the group.
        taps: size of the kernel; odd or even, equal on the axes that the group exchanges.
    """
    if len(taps) != group.dim:
        raise ValueError(f"taps {taps} must be {group.dim} sizes for the group {group.name}")
    for i, j in np.argwhere(np.any(group.matrices != 0, axis=0)):
        if taps[i] != taps[j]:
            raise ValueError(
                f"taps {taps}: {group.name} maps axis {j} onto axis {i}; give them equal sizes"
            )
    size = np.array(taps)
    doubled = 2 * np.indices(taps).reshape(len(taps), -1).T - (size - 1)  # integer also for even k
    # g^-1 is the transpose of g, so rows times g.
    back = (np.einsum("ti,gij->tgj", doubled, group.matrices) + size - 1) // 2
    return np.ravel_multi_index(tuple(np.moveaxis(back, -1, 0)), taps)


@functools.cache
def regular_table(group: Group, taps: tuple[int, ...]) -> Int[np.ndarray, "t h g"]:
    """``table[p, h, g]`` is the flat index of ``(g^-1 p, g^-1 h)`` in ``[taps, |G|]``."""
    tap = lifting_table(group, taps)
    element = group.cayley[group.inverses]  # [g, h]
    return tap[:, None, :] * group.order + element.T[None]


def _reduce(x, reduce):
    if reduce not in ("mean", "max"):
        raise ValueError(f"reduce {reduce!r} must be 'mean' or 'max'")
    return x.mean(-2) if reduce == "mean" else x.max(-2)


def _check_field(x, weights, group):
    expected = (group.order, x.shape[-1])
    if x.shape[-2] != group.order or weights.shape[-3:-1] != expected:
        raise ValueError(
            f"field {x.shape} and weights {weights.shape} must be [b, *space, {group.order}, ci] "
            f"and [*taps, {group.order}, ci, co] for the group {group.name} of order {group.order}"
        )


def _check_grid(group, size, taps, stride, padding):
    """Refuses strides and paddings whose output grid is off centre on an axis the group moves."""
    n = len(size)
    if n != group.dim:
        raise ValueError(f"group {group.name} acts on {group.dim} axes; the image has {n}: {size}")
    steps = (stride,) * n if isinstance(stride, int) else tuple(stride)
    pads = lax.padtype_to_pads(size, taps, steps, "VALID" if padding == "VALID" else "SAME")
    for i, j in np.argwhere(np.any(group.matrices != np.eye(n), axis=0)):
        if i != j and steps[i] != steps[j] and np.any(group.matrices[:, i, j]):
            raise ValueError(
                f"stride {steps}: {group.name} maps axis {j} onto axis {i}; give them equal steps"
            )
        low, high = pads[i]
        unused = (size[i] + low + high - taps[i]) % steps[i]
        if low != high - unused:
            raise ValueError(
                f"axis {i} of size {size[i]} with kernel {taps[i]}, stride {steps[i]} and padding "
                f"{padding!r} is sampled off centre, which is not equivariant under {group.name}; "
                "take an odd size for an odd kernel, or convolve with stride 1 and pool"
            )
