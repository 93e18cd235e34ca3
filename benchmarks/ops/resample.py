"""Sampling at displaced coordinates against torch's `grid_sample` and `scipy.ndimage`."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ops.case import Case, waiting
from jaxmedgen.ops.resample import resample


def cases(*, quick: bool, peers: bool) -> Iterator[Case]:
    """Linear and cubic sampling of one volume at a grid displaced by up to five voxels.

    The backward pass alone is timed, to image and coordinates together.
    """
    for channels in (1, 8) if quick else (1, 3, 8):
        yield from _linear(128, 3, channels, peers)
    yield from _against_scipy(128, 1, peers)
    yield from _against_scipy(128, 3, peers)
    if not quick:
        yield from _linear(512, 2, 3, peers)


def _linear(size: int, axes: int, channels: int, peers: bool) -> Iterator[Case]:
    image, x, g = _arrays(size, axes, channels)
    label = f"resample linear {size}^{axes} c{channels}"
    forward = waiting(jax.jit(resample), image, x)
    backward = waiting(jax.jit(lambda i, x, g: jax.vjp(resample, i, x)[1](g)), image, x, g)
    runs = _torch(image, x, g) if peers else (None, None)
    read = image.nbytes + x.nbytes + g.nbytes
    name = "torch grid_sample"
    yield Case(f"{label} forward", forward, runs[0], name, traffic=read)
    both = read + image.nbytes + x.nbytes
    yield Case(f"{label} backward", backward, runs[1], name, traffic=both)


def _against_scipy(size: int, order: int, peers: bool) -> Iterator[Case]:
    image, x, _ = _arrays(size, 3, 1)
    mode = {1: "border", 3: "reflect"}[order]
    ours = waiting(jax.jit(lambda i, x: resample(i, x, order=order, mode=mode)), image, x)
    peer = None
    if peers:
        from scipy import ndimage

        voxels, at = np.asarray(image)[0, ..., 0], np.moveaxis(np.asarray(x)[0], -1, 0).copy()

        def peer():
            scipy_mode = {"border": "nearest", "reflect": "mirror"}[mode]
            return ndimage.map_coordinates(voxels, at, order=order, mode=scipy_mode)

    kind = {1: "linear", 3: "cubic"}[order]
    traffic = 2 * image.nbytes + x.nbytes
    label = f"resample {kind} {size}^3 c1 forward, scipy"
    yield Case(label, ours, peer, "scipy map_coordinates", traffic=traffic)


def _arrays(size: int, axes: int, channels: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """An image, the coordinates of a smoothly displaced grid, and a cotangent."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(size)] * axes, indexing="ij"), -1)
    waves = rng.uniform(2, 6, size=(axes, axes)) * 2 * np.pi / size
    x = grid + 5 * np.sin(grid @ waves + rng.uniform(0, 6, size=axes))
    shape = (1, *(size,) * axes, channels)
    image, g = (jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(2))
    return image, jnp.asarray(x[None], jnp.float32), g


def _torch(image: jax.Array, x: jax.Array, g: jax.Array):
    import torch
    import torch.nn.functional

    def channels_first(array):
        return torch.from_numpy(np.moveaxis(np.asarray(array), -1, 1).copy())

    size = np.asarray(image.shape[1:-1])
    grid = 2 * np.asarray(x) / (size - 1) - 1  # of -1 to 1, components in reverse order of axes
    grid = torch.from_numpy(grid[..., ::-1].astype(np.float32))
    voxels, cotangent = channels_first(image), channels_first(g)

    def sample(voxels, grid):
        return torch.nn.functional.grid_sample(
            voxels, grid, padding_mode="border", align_corners=True
        )

    def forward():
        with torch.no_grad():
            return sample(voxels, grid)

    leaves = voxels.clone().requires_grad_(), grid.clone().requires_grad_()
    out = sample(*leaves)

    def backward():
        return torch.autograd.grad(out, leaves, cotangent, retain_graph=True)

    difference = forward().numpy() - np.moveaxis(np.asarray(resample(image, x)), -1, 1)
    if np.abs(difference).max() > 1e-2:  # coordinates of -1 to 1 round differently
        raise RuntimeError("torch and jaxmedgen do not compute the same thing")
    return forward, backward
