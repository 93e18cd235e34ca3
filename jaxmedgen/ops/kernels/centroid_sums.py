"""Both sums over the centroids of a Riemannian metric in one pass over tiles of them.

For points z ``[b, d]`` with matrices W ``[b, d, d]`` and centroids c with products M:

    total = sum_i w_i M_i,   pull = sum_i w_i <W, M_i> (c_i - z) / T^2,   w_i = exp(-|z-c_i|^2/T^2).

What a stage of geodesic shooting (W = q q^T), a gradient of the log volume (W = G) or an inverse
metric needs. With ``d d`` flattened both sums are products of a ``[points, centroids]`` tile of
weights, which never leaves the chip, with a tile of M; nothing of size ``b n d`` is formed.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.pallas_support import Platform, kernel_platform, next_power_of_two

_FAR = 1e6  # coordinate of centroids that fill up the last tile: their weight is 0
_POINTS = {"gpu": 32, "tpu": 128}
_CENTROIDS = {"gpu": 32, "tpu": 128}
_LEAST = 16  # edge of the smallest matrix product on a GPU
_LARGEST = 16


def centroid_sums_pallas(
    z: Float[Array, "b d"],
    weights: Float[Array, "b d d"],
    centroids: Float[Array, "n d"],
    products: Float[Array, "n d d"],
    temperature: Float[Array, ""],
    *,
    platform: Platform | None = None,
    interpret: bool = False,
) -> tuple[Float[Array, "b d d"], Float[Array, "b d"]]:
    """``total`` and ``pull`` of each point, float32; no derivatives of its own.

    Args:
        z: points.
        weights: W.
        centroids: c.
        products: M.
        temperature: T.
        platform: "gpu" or "tpu"; the default device's by default.
        interpret: run the kernel as plain operations, on any machine. Slow, for tests.

    Raises:
        ValueError: more than 16 dimensions, or no kernel for the platform.
    """
    (b, d), n = z.shape, len(centroids)
    if d > _LARGEST:
        raise ValueError(f"latents of {d} dimensions: the kernel takes up to 16; use backend='xla'")
    chosen = kernel_platform(platform)
    rows, columns, width = _POINTS[chosen], _CENTROIDS[chosen], max(_LEAST, next_power_of_two(d))
    dtype = z.dtype
    z, weights, centroids, products = (
        x.astype(jnp.float32) for x in (z, weights, centroids, products)
    )
    # Scaled by the temperature, so that kernels need no scalar argument.
    scaled, points = centroids / temperature, z / temperature
    pad_b, pad_n, pad_d = -b % rows, -n % columns, width - d
    points = jnp.pad(points, [(0, pad_b), (0, pad_d)])
    scaled = jnp.pad(scaled, [(0, pad_n), (0, pad_d)])
    filled = jnp.arange(n + pad_n)[:, None] < n
    scaled = jnp.where(filled, scaled, _FAR)
    square = [(0, pad_d), (0, pad_d)]
    flat_weights = jnp.pad(weights, [(0, pad_b), *square]).reshape(-1, width * width)
    flat_products = jnp.pad(products, [(0, pad_n), *square]).reshape(-1, width * width)
    run = _on_gpu if chosen == "gpu" else _on_tpu
    total, pull = run(points, flat_weights, scaled, flat_products, d, rows, columns, interpret)
    total = total.reshape(-1, width, width)[:b, :d, :d]
    return total.astype(dtype), (pull[:b, :d] / temperature).astype(dtype)


_dot = functools.partial(jnp.dot, precision="highest", preferred_element_type=jnp.float32)


def _tile(z, weights, centroids, products, d):
    """What one tile of centroids adds to both sums."""
    column = jax.lax.broadcasted_iota(jnp.int32, z.shape, 1)
    across = jax.lax.broadcasted_iota(jnp.int32, centroids.shape, 1)

    def pick(x, axis, k):
        return jnp.sum(jnp.where(axis == k, x, 0.0), 1)

    square = jnp.zeros((z.shape[0], centroids.shape[0]), jnp.float32)
    for k in range(d):  # by differences: the expanded square cancels in float32
        difference = pick(centroids, across, k)[None, :] - pick(z, column, k)[:, None]
        square += difference * difference
    bump = jnp.exp(-square)
    inner = bump * _dot(weights, products.T)
    pull = _dot(inner, centroids) - z * jnp.sum(inner, 1, keepdims=True)
    return _dot(bump, products), pull


def _on_tpu(z, weights, centroids, products, d, rows, columns, interpret):
    width, square = z.shape[1], weights.shape[1]

    def body(z_ref, w_ref, c_ref, m_ref, total_ref, pull_ref):
        @pl.when(pl.program_id(1) == 0)
        def _():
            total_ref[...] = jnp.zeros_like(total_ref)
            pull_ref[...] = jnp.zeros_like(pull_ref)

        total, pull = _tile(z_ref[...], w_ref[...], c_ref[...], m_ref[...], d)
        total_ref[...] += total
        pull_ref[...] += pull

    def of_points(size):
        return pl.BlockSpec((rows, size), lambda i, j: (i, 0))

    def of_centroids(size):
        return pl.BlockSpec((columns, size), lambda i, j: (j, 0))

    return pl.pallas_call(
        body,
        grid=(z.shape[0] // rows, centroids.shape[0] // columns),
        in_specs=[of_points(width), of_points(square), of_centroids(width), of_centroids(square)],
        out_specs=[of_points(square), of_points(width)],
        out_shape=[
            jax.ShapeDtypeStruct(weights.shape, jnp.float32),
            jax.ShapeDtypeStruct(z.shape, jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=interpret,
        name="centroid_sums",
    )(z, weights, centroids, products)


def _on_gpu(z, weights, centroids, products, d, rows, columns, interpret):
    width, square = z.shape[1], weights.shape[1]
    tiles = centroids.shape[0] // columns

    def body(z_ref, w_ref, c_ref, m_ref, total_ref, pull_ref):
        points, matrices = z_ref[...], w_ref[...]

        def add(tile, sums):
            where = (pl.ds(tile * columns, columns), slice(None))
            total, pull = _tile(points, matrices, c_ref[where], m_ref[where], d)
            return sums[0] + total, sums[1] + pull

        nothing = jnp.zeros((rows, square), jnp.float32), jnp.zeros((rows, width), jnp.float32)
        total_ref[...], pull_ref[...] = jax.lax.fori_loop(0, tiles, add, nothing)

    def of_points(size):
        return pl.BlockSpec((rows, size), lambda i: (i, 0))

    def whole(x):
        return pl.BlockSpec(x.shape, lambda i: (0, 0))

    return pl.pallas_call(
        body,
        grid=(z.shape[0] // rows,),
        in_specs=[of_points(width), of_points(square), whole(centroids), whole(products)],
        out_specs=[of_points(square), of_points(width)],
        out_shape=[
            jax.ShapeDtypeStruct(weights.shape, jnp.float32),
            jax.ShapeDtypeStruct(z.shape, jnp.float32),
        ],
        compiler_params=plgpu.CompilerParams(num_warps=8, num_stages=1),
        interpret=interpret,
        name="centroid_sums",
    )(z, weights, centroids, products)
