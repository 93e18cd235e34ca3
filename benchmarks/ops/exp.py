"""Exponential of stationary velocity fields against VoxelMorph's integration layer in torch.

The peer is VecInt with its spatial transformer as VoxelMorph publishes them: channels first, a
stored identity grid, positions normalised to [-1, 1] and flipped for `grid_sample` (align_corners,
zeros outside), scaled by 1 / 2^7, then 7 compositions. The field decays to zero at the border, so
both sides agree; that is checked before anything is timed.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ops.case import Case, waiting
from jaxmedgen.ops.fields import exp_velocity
from jaxmedgen.ops.filters import gaussian_filter

STEPS = 7


def cases(*, quick: bool, peers: bool) -> Iterator[Case]:
    """Forward at 64^3 and 128^3, forward and gradient at 64^3 (all sizes unless quick)."""
    for size in (64, 128):
        velocity = _velocity(size)
        field_bytes = velocity.size * 4
        yield Case(
            f"exp {STEPS} squarings {size}^3 forward",
            waiting(jax.jit(exp_velocity), velocity),
            *(_peer(velocity, gradient=False) if peers else ()),
            # A squaring reads and writes the field once.
            traffic=2 * STEPS * field_bytes,
        )
        if size == 64 or not quick:
            gradient = jax.jit(jax.grad(lambda v: jnp.mean(exp_velocity(v) ** 2)))
            yield Case(
                f"exp {STEPS} squarings {size}^3 gradient",
                waiting(gradient, velocity),
                *(_peer(velocity, gradient=True) if peers else ()),
                # Backward reads the field and its cotangent and writes a cotangent.
                traffic=5 * STEPS * field_bytes,
            )


def _velocity(size: int) -> jax.Array:
    """Smooth field of at most 6 voxels, zero at the border."""
    noise = np.random.default_rng(0).normal(size=(1, size, size, size, 3)).astype(np.float32)
    smooth = gaussian_filter(jnp.asarray(noise), size / 12)
    window = np.sin(np.pi * np.arange(size) / (size - 1)) ** 2
    taper = window[:, None, None] * window[:, None] * window
    v = smooth * jnp.asarray(taper, jnp.float32)[..., None]
    return v * (6 / jnp.max(jnp.linalg.norm(v, axis=-1)))


def _peer(velocity, *, gradient):
    import torch
    from torch.nn import functional

    size = velocity.shape[1]
    v = torch.from_numpy(np.array(velocity)).movedim(-1, 1).contiguous()
    axes = [torch.arange(size)] * 3
    grid = torch.stack(torch.meshgrid(axes, indexing="ij"))[None].float()

    def transform(source, flow):
        place = 2 * ((grid + flow) / (size - 1) - 0.5)
        place = place.permute(0, 2, 3, 4, 1)[..., [2, 1, 0]]
        return functional.grid_sample(source, place, align_corners=True, mode="bilinear")

    def integrate(flow):
        flow = flow / 2**STEPS
        for _ in range(STEPS):
            flow = flow + transform(flow, flow)
        return flow

    def forward():
        with torch.no_grad():
            return integrate(v)

    def forward_and_gradient():
        leaf = v.clone().requires_grad_()
        (integrate(leaf) ** 2).mean().backward()
        return leaf.grad

    ours = np.asarray(jax.jit(exp_velocity)(velocity))
    np.testing.assert_allclose(forward().movedim(1, -1).numpy(), ours, atol=2e-3)
    return forward_and_gradient if gradient else forward, "voxelmorph VecInt (torch)"
