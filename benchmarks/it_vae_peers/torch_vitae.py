"""C-VITAE in PyTorch: the reference implementation's multilayer perceptrons and a choice of maps.

The CPAB transformer is libcpab's algorithm: an orthonormal or nodal basis of the cells' velocities,
one matrix exponential a cell, then 50 substeps of finding every point's cell. Weights come from the
other side, by its names.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.timing.torch_weights import dense

SUBSTEPS = 50
SQUARINGS = 7


class Encoder(nn.Module):
    """Batch norm of the flat image, two hidden layers, a linear one."""

    def __init__(self, weights: Mapping[str, np.ndarray], name: str):
        super().__init__()
        scale = weights[f"{name}/Norm_0/scale"]
        self.norm = nn.BatchNorm1d(len(scale))
        self.layers = perceptron(weights, name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images to vectors."""
        return self.layers(self.norm(x.flatten(1)))


def perceptron(weights: Mapping[str, np.ndarray], name: str) -> nn.Sequential:
    """Linear layers of a name with leaky rectifiers between them."""
    layers: list[nn.Module] = []
    for k in range(3):
        layers += [dense(weights, f"{name}/Dense_{k}"), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers[:-1])


class Vitae(nn.Module):
    """Negative bound of a Bernoulli C-VITAE; its variance decoder is left out, as it has no use."""

    def __init__(self, weights: Mapping[str, np.ndarray], shape: tuple[int, int], maps: nn.Module):
        super().__init__()
        self.shape, self.maps = shape, maps
        self.encoders = nn.ModuleDict(
            {
                f"{latent}_{part}": Encoder(weights, f"{latent}_encoder/{part}")
                for latent in ("perspective", "appearance")
                for part in ("mean", "variance")
            }
        )
        self.perspective_decoder = perceptron(weights, "perspective_decoder")
        self.mean_decoder = perceptron(weights, "mean_decoder")

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Mean over the batch, for images ``[b, 1, h, w]``."""
        first, second = noise.chunk(2, -1)
        z, divergence = self.draw("perspective", x, first)
        reach = self.maps.reach
        parameters = reach * torch.tanh(self.perspective_decoder(z) / reach)
        there, back = self.maps(parameters), self.maps(-parameters)
        z, more = self.draw("appearance", sample(x, back), second)
        mean = torch.sigmoid(self.mean_decoder(z)).view(-1, 1, *self.shape)
        p = sample(mean, there).clamp(1e-5, 1 - 1e-5)
        likelihood = (x * torch.log(p) + (1 - x) * torch.log1p(-p)).flatten(1).sum(-1)
        return (divergence + more - likelihood).mean()

    def draw(self, latent: str, x: torch.Tensor, noise: torch.Tensor):
        """A latent vector and the divergence of its posterior from the prior."""
        mean = self.encoders[f"{latent}_mean"](x)
        spread = torch.log(functional.softplus(self.encoders[f"{latent}_variance"](x)) + 1e-8)
        divergence = 0.5 * (torch.exp(spread) - 1 - spread + mean**2).sum(-1)
        return mean + torch.exp(0.5 * spread) * noise, divergence


def sample(image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Linear values of ``[b, c, h, w]`` at voxel positions ``[b, h, w, 2]``, border repeated."""
    extent = torch.tensor([n - 1 for n in image.shape[2:]], dtype=points.dtype)
    places = (2 * points / extent - 1).flip(-1)
    return functional.grid_sample(image, places, padding_mode="border", align_corners=True)


def grid(shape: tuple[int, int]) -> torch.Tensor:
    """Voxel positions ``[h, w, 2]``."""
    axes = [torch.arange(n, dtype=torch.float32) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


class Affine(nn.Module):
    """Matrix exponential, acting in [-1, 1] about the centre."""

    reach = 2.0

    def __init__(self, shape: tuple[int, int]):
        super().__init__()
        self.half = torch.tensor([(n - 1) / 2 for n in shape])
        self.unit = grid(shape) / self.half - 1

    def forward(self, parameters: torch.Tensor) -> torch.Tensor:
        """Where each voxel looks, in voxels."""
        top = parameters.view(-1, 2, 3)
        matrix = torch.matrix_exp(torch.cat([top, torch.zeros_like(top[:, :1])], 1))
        moved = torch.einsum("bij,hwj->bhwi", matrix[:, :2, :2], self.unit)
        return (moved + matrix[:, None, None, :2, 2] + 1) * self.half


class Velocity(nn.Module):
    """Exponential of a velocity on a grid of cubic B-spline control points."""

    def __init__(self, shape: tuple[int, int], rows: list[np.ndarray]):
        super().__init__()
        self.reach = min(shape) / 4
        self.rows = [torch.tensor(r, dtype=torch.float32) for r in rows]
        self.grid = grid(shape)

    def forward(self, parameters: torch.Tensor) -> torch.Tensor:
        """Where each voxel looks, in voxels."""
        control = parameters.view(-1, *(r.shape[1] for r in self.rows), 2)
        v = torch.einsum("hi,wj,bijc->bhwc", *self.rows, control)
        u = v / 2**SQUARINGS
        for _ in range(SQUARINGS):
            u = u + sample(u.movedim(-1, 1), self.grid + u).movedim(1, -1)
        return self.grid + u


class Cpab(nn.Module):
    """Substeps through the cells' matrix exponentials; two cuts make four triangles a box."""

    reach = 0.5

    def __init__(self, shape: tuple[int, int], cells: tuple[int, int], basis: np.ndarray):
        super().__init__()
        self.cells = torch.tensor(cells, dtype=torch.float32)
        self.columns = cells[1]
        self.basis = torch.tensor(basis, dtype=torch.float32)
        self.extent = torch.tensor([n - 1 for n in shape], dtype=torch.float32)
        self.points = (grid(shape) / self.extent).view(1, -1, 2)
        self.shape = shape

    def forward(self, parameters: torch.Tensor) -> torch.Tensor:
        """Where each voxel looks, in voxels."""
        count = parameters.shape[0]
        velocity = (parameters @ self.basis.T).view(count, -1, 2, 3)
        square = torch.cat([velocity, torch.zeros_like(velocity[:, :, :1])], 2) / SUBSTEPS
        matrices = torch.matrix_exp(square)[:, :, :2]
        sample_number = torch.arange(count)[:, None]
        x = self.points.expand(count, -1, -1)
        for _ in range(SUBSTEPS):
            found = matrices[sample_number, self.cell(x)]
            x = (found[..., :2] * x[..., None, :]).sum(-1) + found[..., 2]
        return x.view(count, *self.shape, 2) * self.extent

    def cell(self, x: torch.Tensor) -> torch.Tensor:
        """Number of the triangle of each point."""
        scaled = x * self.cells
        box = torch.minimum(scaled.floor().clamp(min=0), self.cells - 1)
        a, b = (scaled - box).unbind(-1)
        above, beyond = (a > b).long(), (a + b > 1).long()
        part = torch.where(above == beyond, above, 3 - above)
        row, column = box.long().unbind(-1)
        return 4 * (row * self.columns + column) + part
