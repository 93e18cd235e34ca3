"""Parallel-beam projection, back-projection and their transposes in plain JAX.

Images ``[m, n, n]``, sinograms ``[m, angles, bins]``, ``trig [angles, 2]`` holds cosine and sine of
the angles. Positions are relative to the centre pixel ``n // 2`` and the centre bin ``bins // 2``.
Interpolation is linear with zeros outside. All four functions gather, so that none needs atomic or
serial additions; they scan over the angles and keep nothing of a size ``n^2 * angles``.

The products of position and cosine or sine are made before the scan. Inside of it a coordinate is
one addition: were it a product and a sum, the compiler could round it differently where it becomes
an index and where it becomes a weight, which puts a sample that falls on a pixel one pixel off.
"""

import jax
import jax.numpy as jnp


def project(image: jax.Array, trig: jax.Array) -> jax.Array:
    """Sum of bilinear samples along each ray: sinograms ``[m, angles, n]``."""
    n = image.shape[1]
    frame, width = jnp.pad(image, ((0, 0), (1, 2), (1, 2))), n + 3
    flat = jnp.moveaxis(frame, 0, -1).reshape(width * width, -1)  # [pixels, m]

    def one(line):
        cosines, sines = line
        column = jnp.clip(cosines[:, None] + sines, 0, n + 1)  # [s, t]
        row = jnp.clip(cosines - sines[:, None], 0, n + 1)
        i, j = row.astype(jnp.int32), column.astype(jnp.int32)
        y, x = (row - i)[..., None], (column - j)[..., None]
        at = i * width + j
        upper = (1 - x) * _take(flat, at) + x * _take(flat, at + 1)
        lower = (1 - x) * _take(flat, at + width) + x * _take(flat, at + width + 1)
        # A plain sum would be fused with the gathers into a loop that XLA:CPU does not vectorise.
        ones = jnp.ones(n, flat.dtype)
        return jnp.einsum("stm,t->sm", (1 - y) * upper + y * lower, ones, precision="highest")

    return jnp.moveaxis(jax.lax.map(one, _products(n, trig, n // 2 + 1)), -1, 0)


def project_adjoint(sinogram: jax.Array, trig: jax.Array) -> jax.Array:
    """Transpose of `project`: images ``[m, n, n]`` for ``n`` bins.

    A pixel gathers from the at most 4 x 4 samples whose bilinear footprint may reach it.
    """
    n = sinogram.shape[-1]
    low, high = -(n // 2), n - 1 - n // 2

    def add(image, per_angle):
        line, (cosines, sines), (cosine, sine) = per_angle
        s, t = cosines - sines[:, None], sines + cosines[:, None]  # [row, column]
        for ds in range(-1, 3):
            s_at = jnp.floor(s) + ds
            weight = 0.0
            for dt in range(-1, 3):
                t_at = jnp.floor(t) + dt
                du = (s_at - s) * cosine + (t_at - t) * sine
                dv = (t_at - t) * cosine - (s_at - s) * sine
                weight += jnp.where((t_at >= low) & (t_at <= high), _hat(du) * _hat(dv), 0.0)
            weight = jnp.where((s_at >= low) & (s_at <= high), weight, 0.0)
            bin_at = jnp.clip(s_at - low, 0, n - 1).astype(jnp.int32)
            image = image + weight[..., None] * _take(line, bin_at)
        return image, None

    return _accumulate(add, n, sinogram, _products(n, trig), trig)


def back_project(sinogram: jax.Array, trig: jax.Array, size: int) -> jax.Array:
    """Sum over the angles of the projection at each pixel: images ``[m, size, size]``."""
    bins = sinogram.shape[-1]

    def add(image, per_angle):
        line, (cosines, sines) = per_angle  # line [bins + 3, m]
        t = jnp.clip(cosines - sines[:, None], 0, bins + 1)
        low = t.astype(jnp.int32)
        weight = (t - low)[..., None]
        return image + (1 - weight) * _take(line, low) + weight * _take(line, low + 1), None

    frame = jnp.pad(sinogram, ((0, 0), (0, 0), (1, 2)))
    return _accumulate(add, size, frame, _products(size, trig, bins // 2 + 1))


def back_project_adjoint(image: jax.Array, trig: jax.Array, bins: int) -> jax.Array:
    """Transpose of `back_project`: sinograms ``[m, angles, bins]``.

    Along the image axis on which a projection changes faster, at most 4 pixels of a line reach a
    bin.
    """
    n = image.shape[1]
    low, high = -(n // 2), n - 1 - n // 2
    flat = jnp.moveaxis(image, 0, -1).reshape(n * n, -1)
    bin_at = _centred(bins, trig.dtype)[:, None]

    def one(per_angle):
        (cosines, sines), (cosine, sine) = per_angle
        upright = jnp.abs(cosine) >= jnp.abs(sine)
        step = jnp.where(upright, cosine, -sine)
        offset = jnp.where(upright, -sines, cosines)  # of each line of pixels
        along, across = jnp.where(upright, 1, n), jnp.where(upright, n, 1)
        nearest = jnp.floor((bin_at - offset) / step)
        total = 0.0
        for shift in range(-1, 3):
            place = nearest + shift
            weight = _hat(place * step + offset - bin_at)
            weight = jnp.where((place >= low) & (place <= high), weight, 0.0)
            pixel = jnp.clip(place - low, 0, n - 1).astype(jnp.int32)
            total += weight[..., None] * _take(flat, pixel * along + jnp.arange(n) * across)
        return jnp.einsum("skm,k->sm", total, jnp.ones(n, flat.dtype), precision="highest")

    return jnp.moveaxis(jax.lax.map(one, (_products(n, trig), trig)), -1, 0)


def _products(size, trig, shift=0):
    """Positions times cosine, plus `shift`, and times sine, each ``[angles, size]``."""
    products = trig.T[..., None] * _centred(size, trig.dtype)
    # The barrier keeps a scan of one step, which is no loop, from fusing them after all.
    return jax.lax.optimization_barrier((products[0] + shift, products[1]))


def _accumulate(add, size, sinogram, *per_angle):
    """Scans `add` over the angles, one line ``[bins, m]`` at a time."""
    lines = jnp.transpose(sinogram, (1, 2, 0))
    start = jnp.zeros((size, size, lines.shape[-1]), lines.dtype)
    image, _ = jax.lax.scan(add, start, (lines, *per_angle))
    return jnp.moveaxis(image, -1, 0)


def _centred(size, dtype):
    return jnp.arange(size, dtype=dtype) - size // 2


def _hat(distance):
    return jnp.maximum(1 - jnp.abs(distance), 0)


def _take(flat, index):
    return flat.at[index].get(mode="promise_in_bounds")
