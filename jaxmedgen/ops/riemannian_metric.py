"""Riemannian metric of a latent space, given by its inverse: bumps around centroids.

    G^-1(z) = sum_i w_i(z) M_i + lambda I,   w_i(z) = exp(-|z - c_i|^2 / T^2),   M_i = L_i L_i^T.

Between ``lambda I`` and ``sum |M_i| + lambda`` everywhere, so geodesics exist for all times. The
volume element ``sqrt det G`` is small near the centroids and ``lambda^(-d/2)`` far from them.

Everything is a function of two sums over the centroids, which `centroid_sums` takes in one pass:
G^-1 itself and, for a matrix W of each point, ``pull(W) = sum_i w_i <W, M_i> (c_i - z) / T^2``:

    grad_z (q^T G^-1 q / 2) = pull(q q^T),   grad_z log sqrt det G^-1 = pull(G).

Source: Chadebec, Mantoux & Allassonniere, "Geometry-aware Hamiltonian variational auto-encoder",
2020 (arXiv 2010.11518); signs and the trace checked by finite differences, for published code has
both wrong.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.centroid_sums import centroid_sums_pallas
from jaxmedgen.ops.kernels.pallas_support import with_reference_derivative
from jaxmedgen.ops.kernels.platform import platform
from jaxmedgen.types import Leaf

Backend = Literal["auto", "xla", "pallas"]

NOWHERE = 1e6
"""Coordinate of centroids that count for nothing, where arrays must be filled up."""


class CentroidMetric(NamedTuple):
    """A metric.

    Attributes:
        centroids: c, ``[n, d]``.
        products: M, symmetric and positive semidefinite, ``[n, d, d]``.
        temperature: T, scalar: the width of the bumps.
        regularisation: lambda, scalar, positive.
    """

    centroids: Leaf
    products: Leaf
    temperature: Leaf
    regularisation: Leaf


def metric_of_factors(
    centroids: Float[Array, "n d"],
    factors: Float[Array, "n d d"],
    temperature: Float[Array, ""] | float | int,
    regularisation: Float[Array, ""] | float | int,
) -> CentroidMetric:
    """The metric of lower triangular factors L_i.

    Raises:
        ValueError: a temperature or regularisation that is a number and not positive.
    """
    for name, value in (("temperature", temperature), ("regularisation", regularisation)):
        if isinstance(value, float | int) and value <= 0:
            raise ValueError(f"{name}={value} must be positive")
    products = jnp.einsum("nij,nkj->nik", factors, factors, precision="highest")
    return CentroidMetric(
        centroids,
        products,
        jnp.asarray(temperature, centroids.dtype),
        jnp.asarray(regularisation, centroids.dtype),
    )


def centroid_sums(
    metric: CentroidMetric,
    z: Float[Array, "b d"],
    weights: Float[Array, "b d d"],
    backend: Backend | str = "xla",
) -> tuple[Float[Array, "b d d"], Float[Array, "b d"]]:
    """``G^-1(z)`` and ``pull(W)``, see above.

    Args:
        metric: the metric.
        z: points.
        weights: W, one matrix a point.
        backend: "xla"; "pallas": one fused kernel on GPU and TPU, with XLA's derivatives; "auto":
            the kernel where there is one.

    Raises:
        ValueError: an unknown backend.
    """
    if backend not in ("auto", "xla", "pallas"):
        raise ValueError(f"backend={backend!r}: choose auto, xla or pallas")
    if backend == "auto":
        backend = "pallas" if platform() in ("gpu", "tpu") else "xla"
    arrays = (z, weights, metric.centroids, metric.products, metric.temperature)
    if backend == "pallas":
        total, pull = with_reference_derivative(centroid_sums_pallas, _sums)(*arrays)
    else:
        total, pull = _sums(*arrays)
    return total + metric.regularisation * jnp.eye(z.shape[-1], dtype=z.dtype), pull


def _sums(z, weights, centroids, products, temperature):
    (b, d), n = z.shape, len(centroids)
    # By differences: |z|^2 - 2 z c + |c|^2 would cancel in float32.
    difference = centroids - z[:, None]
    bump = jnp.exp(-jnp.sum(difference**2, -1) / temperature**2)
    flat = products.reshape(n, d * d)
    total = jnp.dot(bump, flat, precision="highest").reshape(b, d, d)
    pulled = bump * jnp.dot(weights.reshape(b, d * d), flat.T, precision="highest")
    return total, jnp.einsum("bn,bnd->bd", pulled, difference) / temperature**2


def inverse_metric(metric: CentroidMetric, z: Float[Array, "b d"]) -> Float[Array, "b d d"]:
    """``G^-1`` at each point."""
    return centroid_sums(metric, z, jnp.zeros((*z.shape, z.shape[-1]), z.dtype))[0]


def inverse_log_volume(metric: CentroidMetric, z: Float[Array, "b d"]) -> Float[Array, " b"]:
    """``log sqrt det G^-1(z)``: the log density, up to a constant, of sampling on the manifold.

    By Cholesky factors: the determinant itself underflows far from the centroids.
    """
    return half_log_determinant(jnp.linalg.cholesky(inverse_metric(metric, z)))


def inverse_log_volume_gradient(
    metric: CentroidMetric, z: Float[Array, "b d"], backend: Backend | str = "xla"
) -> tuple[Float[Array, " b"], Float[Array, "b d"]]:
    """`inverse_log_volume` and its gradient, in closed form.

    ``grad log sqrt det G^-1 = sum_i w_i tr(G M_i) (c_i - z) / T^2``.
    """
    factor = jnp.linalg.cholesky(inverse_metric(metric, z))
    pull = centroid_sums(metric, z, inverse_from_factor(factor), backend)[1]
    return half_log_determinant(factor), pull


def half_log_determinant(factor: Float[Array, "b d d"]) -> Float[Array, " b"]:
    """``log sqrt det (C C^T)`` of Cholesky factors C."""
    return jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)


def inverse_from_factor(factor: Float[Array, "b d d"]) -> Float[Array, "b d d"]:
    """``(C C^T)^-1`` of Cholesky factors C."""
    identity = jnp.broadcast_to(jnp.eye(factor.shape[-1], dtype=factor.dtype), factor.shape)
    half = jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
    return jnp.einsum("bki,bkj->bij", half, half, precision="highest")


def kinetic_energy(
    metric: CentroidMetric, z: Float[Array, "b d"], q: Float[Array, "b d"]
) -> Float[Array, " b"]:
    """``q^T G^-1(z) q / 2``, the Hamiltonian of geodesics; q is a momentum."""
    return 0.5 * jnp.einsum("bi,bij,bj->b", q, inverse_metric(metric, z), q)


def velocity_of(
    metric: CentroidMetric, z: Float[Array, "b d"], q: Float[Array, "b d"]
) -> Float[Array, "b d"]:
    """Velocity ``G^-1 q`` of a momentum."""
    return jnp.einsum("bij,bj->bi", inverse_metric(metric, z), q)


def momentum_of(
    metric: CentroidMetric, z: Float[Array, "b d"], v: Float[Array, "b d"]
) -> Float[Array, "b d"]:
    """Momentum ``G v`` of a velocity, by a Cholesky solve."""
    factor = jnp.linalg.cholesky(inverse_metric(metric, z))
    return jax.scipy.linalg.cho_solve((factor, True), v[..., None])[..., 0]


def draw_momentum(
    metric: CentroidMetric, z: Float[Array, "b d"], noise: Float[Array, "b d"]
) -> Float[Array, "b d"]:
    """A draw of ``N(0, G(z))`` from standard normal numbers: ``C^-T noise``, ``C C^T = G^-1``."""
    factor = jnp.linalg.cholesky(inverse_metric(metric, z))
    return jax.scipy.linalg.solve_triangular(factor, noise[..., None], trans=1, lower=True)[..., 0]


def geodesic_slope(
    metric: CentroidMetric,
    z: Float[Array, "b d"],
    q: Float[Array, "b d"],
    backend: Backend | str = "xla",
) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
    """Hamilton's equations: ``dz/dt = G^-1 q``, ``dq/dt = -pull(q q^T)``."""
    total, pull = centroid_sums(metric, z, q[:, :, None] * q[:, None, :], backend)
    return jnp.einsum("bij,bj->bi", total, q), -pull


def nearest_centroid(metric: CentroidMetric, z: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Distance of each point to the nearest centroid, in units of the latent space."""
    difference = metric.centroids - z[:, None]
    return jnp.sqrt(jnp.min(jnp.sum(difference**2, -1), -1))
