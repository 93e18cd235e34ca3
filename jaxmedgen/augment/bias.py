"""Random bias fields: ``x exp(f)`` with a smooth log-field f, as receive coils make it.

The log-field is a polynomial of total order n in voxel-centre coordinates in [-1, 1], in monomials
(NiftyNet, TorchIO; Sudre et al. 2017) or in Legendre polynomials (MONAI), or a cubic B-spline of
control points. In 3D an order of 3 has 20 terms, in 2D 10.
"""

import itertools
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.augment.statistics import Mask, lift, match_stats, value_range
from jaxmedgen.ops.control_grids import bspline_field
from jaxmedgen.ops.resize import apply_matrices

BiasBasis = Literal["monomial", "legendre", "bspline"]
Coefficients = Float[Array, " b terms"] | Float[Array, " b terms c"]


def bias_field(
    image: Float[Array, " b *s c"],
    coefficients: Coefficients,
    *,
    order: int = 3,
    basis: BiasBasis = "monomial",
    retain_stats: bool = True,
    mask: Mask = None,
) -> Float[Array, " b *s c"]:
    """``(x - min) exp(f) + min``: the field scales the distance to the darkest voxel.

    Args:
        image: any intensities; z-scored ones may be negative, which is why the minimum is taken
            off before.
        coefficients: of `log_bias`; one set for all channels, or one a channel.
        order: of the polynomial, or B-spline control points an axis.
        basis: see `log_bias`.
        retain_stats: shift and scale the result to the mean and standard deviation it had.
        mask: voxels that minimum and statistics are taken over.
    """
    low = lift(value_range(image, mask)[0], image)
    log_field = log_bias(coefficients, image.shape[1:-1], order=order, basis=basis)
    out = (image - low) * jnp.exp(log_field) + low
    return match_stats(out, image, mask) if retain_stats else out


def log_bias(
    coefficients: Coefficients,
    shape: tuple[int, ...],
    *,
    order: int = 3,
    basis: BiasBasis = "monomial",
) -> Float[Array, " b *s c"]:
    """The log-field; voxel-centre coordinates run from -1 to 1 over the volume's faces.

    Args:
        coefficients: for polynomials ``c_ijk`` of the terms ``i + j + k <= order`` in lexicographic
            order of (i, j, k); for B-splines the control points in row-major order. ``[b, terms]``
            or, a field for each channel, ``[b, terms, c]``.
        shape: spatial size.
        order: of the polynomial, or B-spline control points an axis (at least 4).
        basis: ``monomial``, ``legendre`` or ``bspline``.

    Raises:
        ValueError: if the number of coefficients does not fit the order.
    """
    if coefficients.ndim == 2:
        coefficients = coefficients[..., None]
    batch, terms, channels = coefficients.shape
    wanted = bias_terms(len(shape), order, basis)
    if terms != wanted:
        raise ValueError(
            f"{terms} bias coefficients for order {order} in {len(shape)}D: give {wanted}"
        )
    if basis == "bspline":
        control = coefficients.reshape(batch, *(order,) * len(shape), channels)
        return bspline_field(control, shape)
    at = (slice(None), *np.asarray(_exponents(len(shape), order)).T)
    cube = jnp.zeros((batch, *(order + 1,) * len(shape), channels), coefficients.dtype)
    cube = cube.at[at].set(coefficients)
    series = {"monomial": np.polynomial.polynomial.polyvander,
              "legendre": np.polynomial.legendre.legvander}[basis]  # fmt: skip
    return apply_matrices(cube, [series((2 * np.arange(n) + 1) / n - 1, order) for n in shape])


def bias_terms(axes: int, order: int, basis: BiasBasis) -> int:
    """Number of coefficients of a field."""
    return order**axes if basis == "bspline" else len(_exponents(axes, order))


def _exponents(axes: int, order: int) -> list[tuple[int, ...]]:
    return [e for e in itertools.product(range(order + 1), repeat=axes) if sum(e) <= order]
