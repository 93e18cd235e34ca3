"""Geodesic shooting: EPDiff by RK4, ten steps, with the semi-Lagrangian inverse map.

The peer is the same algorithm written for PyTorch: momentum form, real FFTs for the metric, central
differences by `torch.roll`, `grid_sample` on a circularly padded volume for the map; autograd for
the gradient, with a checkpoint a step for large volumes, as ours. Both sides compute the same
displacement (checked before timing).
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ops.case import Case, waiting
from jaxmedgen.ops.shooting import shoot
from jaxmedgen.ops.sobolev import SobolevMetric, flat, sharp

STEPS = 10
STORED = 64
"""Largest edge whose gradient keeps all intermediates, ours and the peer's."""
METRIC = SobolevMetric()


def cases(*, quick: bool, peers: bool) -> Iterator[Case]:
    """Forward pass and gradient, 64^3 and (not quick) 128^3."""
    for size in (64,) if quick else (64, 128):
        noise = np.random.default_rng(0).normal(size=(1, size, size, size, 3)).astype(np.float32)
        v = sharp(jnp.asarray(noise), METRIC)
        m = flat(3 * v / jnp.abs(v).max(), METRIC)
        target = 0.5 * v / jnp.abs(v).max()

        def inverse(m, gradient="stored"):
            return shoot(m, METRIC, start_is="momentum", steps=STEPS, gradient=gradient).inverse

        def loss(m, gradient, target=target):
            return jnp.sum((inverse(m, gradient) - target) ** 2)

        peer = _Torch(size, m, target) if peers else None
        forward = jax.jit(inverse)
        if peer:
            np.testing.assert_allclose(peer.inverse(), forward(m), atol=2e-3)
        name = f"shoot rk4x{STEPS} {size}^3"
        work = _flops(size)
        yield Case(
            f"{name} forward",
            waiting(forward, m),
            peer.inverse if peer else None,
            "torch",
            flops=work,
        )
        # At 128^3 the intermediates of ten steps exceed the memory of small machines, theirs first.
        usual = "stored" if size <= STORED else "checkpoint"
        slope = jax.jit(jax.grad(lambda m, mode=usual: loss(m, mode)))
        yield Case(
            f"{name} gradient",
            waiting(slope, m),
            peer.gradient if peer else None,
            "torch",
            flops=3 * work,
        )
        for mode in () if quick else ("checkpoint", "reversible", "adjoint"):
            slope = jax.jit(jax.grad(lambda m, mode=mode: loss(m, mode)))
            yield Case(f"{name} gradient {mode}", waiting(slope, m), flops=3 * work)


def _flops(size: int) -> float:
    """Four slopes a step: two real FFTs of three components and the stencil; two gathers."""
    voxels = size**3
    transform = 2 * 3 * 2.5 * voxels * math.log2(voxels)
    return STEPS * (4 * (transform + 90 * voxels) + 2 * 60 * voxels)


class _Torch:
    """The same algorithm in PyTorch."""

    def __init__(self, size: int, momentum: jax.Array, target: jax.Array) -> None:
        import torch
        import torch.utils.checkpoint

        self.torch = torch
        planes = [np.moveaxis(np.asarray(x[0]), -1, 0).copy() for x in (momentum, target)]
        self.momentum, self.target = (torch.from_numpy(x) for x in planes)
        self.size = size
        angle = [2 * np.pi * np.fft.fftfreq(size)] * 2 + [2 * np.pi * np.fft.rfftfreq(size)]
        a, b, c = (2 * (1 - np.cos(x)) for x in angle)
        laplacian = a[:, None, None] + b[:, None] + c
        kernel = (METRIC.alpha * laplacian + METRIC.gamma) ** -float(METRIC.power)
        self.kernel = torch.from_numpy(kernel.astype(np.float32))
        axis = torch.arange(size, dtype=torch.float32)
        self.grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))

    def inverse(self) -> np.ndarray:
        """Displacement of the inverse map, channels last."""
        with self.torch.no_grad():
            return np.moveaxis(self._shoot(self.momentum)[None].numpy(), 1, -1)

    def gradient(self) -> Any:
        """Gradient of a squared distance in the initial momentum."""
        m = self.momentum.clone().requires_grad_()
        loss = ((self._shoot(m) - self.target) ** 2).sum()
        return self.torch.autograd.grad(loss, m)[0]

    def _shoot(self, m):
        u, v = self.torch.zeros_like(m), self._sharp(m)
        for _ in range(STEPS):
            if m.requires_grad and self.size > STORED:
                checkpoint = self.torch.utils.checkpoint.checkpoint
                m, v, u = checkpoint(self._step, m, v, u, use_reentrant=False)
            else:
                m, v, u = self._step(m, v, u)
        return u

    def _step(self, m, v, u):
        dt = 1.0 / STEPS
        k1 = self._slope(m, v)
        k2 = self._slope(m + dt / 2 * k1)
        k3 = self._slope(m + dt / 2 * k2)
        k4 = self._slope(m + dt * k3)
        m = m + dt / 6 * (k1 + 2 * (k2 + k3) + k4)
        after = self._sharp(m)
        middle = 0.5 * (v + after)
        step = -dt * self._sample(middle, -dt / 2 * middle)
        return m, after, step + self._sample(u, step)

    def _sharp(self, m):
        fft, shape = self.torch.fft, (self.size,) * 3
        return fft.irfftn(self.kernel * fft.rfftn(m, dim=(1, 2, 3)), s=shape, dim=(1, 2, 3))

    def _slope(self, m, v=None):
        v = self._sharp(m) if v is None else v
        torch = self.torch
        rows = []
        for i in range(3):
            # sum_j (d_i v_j) m_j for all j at once, then sum_j d_j (v_j m_i).
            turned = torch.roll(v, -1, i + 1) - torch.roll(v, 1, i + 1)
            total = (turned * m).sum(0)
            flux = v * m[i]
            for j in range(3):
                total = total + torch.roll(flux[j], -1, j) - torch.roll(flux[j], 1, j)
            rows.append(-0.5 * total)
        return torch.stack(rows)

    def _sample(self, field, displacement):
        torch = self.torch
        position = torch.remainder(self.grid + displacement, self.size)
        wide = torch.nn.functional.pad(field[None], (0, 1) * 3, mode="circular")
        # grid_sample wants (x, y, z) in [-1, 1], last axis first.
        points = (position * (2 / self.size) - 1).flip(0).permute(1, 2, 3, 0)[None]
        return torch.nn.functional.grid_sample(
            wide, points, mode="bilinear", padding_mode="border", align_corners=True
        )[0]
