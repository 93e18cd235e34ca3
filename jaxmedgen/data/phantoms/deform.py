"""Diffeomorphisms on the host: velocity modes, scaling and squaring, sampling.

A stationary velocity field v (mm, on a coarse grid) is integrated to exp(v) by scaling and
squaring: exp(v) = exp(v / 2^n) composed with itself n times.

Source: V. Arsigny et al., "A log-Euclidean framework for statistics on diffeomorphisms",
MICCAI 2006.
"""

import functools

import numpy as np
from jaxtyping import Float
from scipy import interpolate, ndimage, sparse

from jaxmedgen.data.phantoms.anatomy import HEAD_CENTRE, REGION_GRID, regions
from jaxmedgen.data.phantoms.template import Grid, regrid

SQUARINGS = 5
"""Halvings before integration: 2^-5 of a 30 mm velocity is a tenth of a voxel of 9 mm."""

VELOCITY_GRID = Grid((24, 24, 24), (216.0, 216.0, 216.0), HEAD_CENTRE)
"""Where velocities live: 9 mm, whatever the resolution of the subjects."""


def sample(
    volume: Float[np.ndarray, "x y z c"], points: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n c"]:
    """Trilinear samples of `volume` at `points` (voxels); beyond the border the edge is repeated.

    All channels at once, as a sparse matrix of eight weights a point.
    """
    shape = np.asarray(volume.shape[:3])
    count = len(points)
    clipped = np.clip(points, 0, (shape - 1).astype(np.float32))
    low = np.minimum(clipped.astype(np.int32), (shape - 2).astype(np.int32))
    high = clipped - low
    stride = np.array([shape[1] * shape[2], shape[2], 1], np.int32)
    base = low @ stride
    columns = np.empty((count, 8), np.int32)
    weights = np.empty((count, 8), np.float32)
    near = 1 - high
    for corner in range(8):
        bits = (corner >> 2 & 1, corner >> 1 & 1, corner & 1)
        columns[:, corner] = base + int(np.dot(bits, stride))
        w = (high if bits[0] else near)[:, 0] * (high if bits[1] else near)[:, 1]
        weights[:, corner] = w * (high if bits[2] else near)[:, 2]
    rows = np.arange(0, 8 * count + 1, 8, dtype=np.int32)
    matrix = sparse.csr_array(
        (weights.ravel(), columns.ravel(), rows), shape=(count, int(shape.prod()))
    )
    return matrix @ volume.reshape(-1, volume.shape[-1])


@functools.lru_cache(maxsize=32)
def _spline(target: Grid, axis: int) -> Float[np.ndarray, "o i"]:
    """Cubic interpolation from the velocity grid's voxels to `target`'s along one axis."""
    centres = VELOCITY_GRID.axis(axis)
    wanted = np.clip(target.axis(axis), centres[0], centres[-1])
    basis = interpolate.make_interp_spline(centres, np.eye(len(centres)), k=3)
    return basis(wanted).astype(np.float32)


def enlarge(field: Float[np.ndarray, "i j k c"], target: Grid) -> Float[np.ndarray, "x y z c"]:
    """`field` of the velocity grid at the voxels of `target`, by separable cubic interpolation."""
    for axis in range(3):
        field = np.moveaxis(np.tensordot(_spline(target, axis), field, (1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def exponential(
    velocity: Float[np.ndarray, "x y z 3"], squarings: int = SQUARINGS
) -> Float[np.ndarray, "x y z 3"]:
    """Displacement of exp(v) by scaling and squaring; `velocity` and result in voxels."""
    shape = velocity.shape[:3]
    identity = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    identity = identity.reshape(-1, 3).astype(np.float32)
    u = velocity.reshape(-1, 3).astype(np.float32) / 2**squarings
    for _ in range(squarings):
        u = u + sample(u.reshape(velocity.shape), identity + u)
    return u.reshape(velocity.shape)


def smooth_noise(
    rng: np.random.Generator, grid: Grid, scale: float, channels: int
) -> Float[np.ndarray, "x y z c"]:
    """White noise blurred by a Gaussian of sigma `scale` mm, unit standard deviation."""
    noise = rng.standard_normal((*grid.shape, channels), dtype=np.float32)
    sigma = [scale / s for s in grid.spacing]
    for axis in range(3):
        noise = ndimage.gaussian_filter1d(noise, sigma[axis], axis, mode="wrap", truncate=3.0)
    # Standard deviation of the filtered noise, known beforehand: it must not depend on the draw.
    gain = np.prod([_gain(s, n) for s, n in zip(sigma, grid.shape)])
    return noise / np.float32(gain)


@functools.lru_cache(maxsize=32)
def _gain(sigma: float, n: int) -> float:
    impulse = np.zeros(n)
    impulse[n // 2] = 1.0
    kernel = ndimage.gaussian_filter1d(impulse, sigma, mode="wrap", truncate=3.0)
    return float(np.sqrt((kernel**2).sum()))


@functools.lru_cache(maxsize=8)
def modes(count: int, seed: int) -> Float[np.ndarray, "m x y z 3"]:
    """The hidden family: `count` velocity fields in mm a unit coefficient, on the velocity grid.

    In order: size, length against width, ventricles (atrophy), height, then smooth random fields
    of `seed`. A positive third coefficient widens the ventricles.
    """
    grid = VELOCITY_GRID
    x, y, z = grid.axes()
    x, y, z = np.broadcast_arrays(x, y - grid.centre[1], z - grid.centre[2])
    size = 0.030 * np.stack([x, y, z], -1)
    aspect = 0.030 * np.stack([-0.7 * x, y, np.zeros_like(x)], -1)
    # Away from the ventricles, strongest at their walls, still felt 20 mm further out.
    step = REGION_GRID.spacing
    blurred = ndimage.gaussian_filter(regions()["ventricle"], 9.0 / step[0])
    slope = [-regrid(g, REGION_GRID.affine, grid, 0.0) for g in np.gradient(blurred, *step)]
    push = np.stack(slope, -1)
    atrophy = 3.0 * push / np.sqrt((push**2).sum(-1)).max()
    height = 0.030 * np.stack([-0.2 * x, -0.2 * y, z], -1)
    fields = [size, aspect, atrophy, height][:count]
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, 7))))
    for _ in range(count - len(fields)):
        field = 2.5 * smooth_noise(rng, grid, 30.0, 3)
        fields.append(field - field.mean((0, 1, 2)))
    return np.reshape(np.asarray(fields, np.float32), (count, *grid.shape, 3))


@functools.cache
def flexible() -> Float[np.ndarray, "x y z 1"]:
    """1 in the brain, 0.35 in skull and face: bone varies less from subject to subject."""
    inside = ndimage.gaussian_filter(regions()["hull"], 4.0)
    return (
        0.35
        + 0.65 * np.clip(regrid(inside, REGION_GRID.affine, VELOCITY_GRID, 0.0), 0, 1)[..., None]
    )
