"""Families of maps given by a vector of numbers: what a network puts out to move an image.

A transformer turns parameters ``[b, k]`` into a map of points, ``phi``, and its inverse. It moves
*sampling* positions: the image ``x(phi(p))`` is ``T x``, and ``T^-1 x = x(phi^-1(p))`` undoes it.
Zero parameters are the identity, so a network may start from it. Points are in voxels, components
in array-axis order, in float32 whatever the precision of the network.

Maps compose by moving points twice, so an image is resampled once however many maps it goes
through. ``T_2 T_1 x`` is ``x(phi_1(phi_2(p)))``.

Linear families are here, deformable ones in `deformable_transformers.py`. Source: Detlefsen &
Hauberg, "Explicit disentanglement of appearance and perspective in generative models", 2019.
"""

import abc
import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.affine import affine_matrix, invert_affine, transform_coordinates
from jaxmedgen.ops.fields import identity_grid
from jaxmedgen.ops.lie import affine_exponential, rigid_exponential

Points = Float[Array, " b *o n"]


class Transformer(abc.ABC):
    """A parametrised family of invertible maps."""

    @abc.abstractmethod
    def size(self, shape: Sequence[int]) -> int:
        """Number of parameters for images of `shape`."""

    @abc.abstractmethod
    def move(
        self,
        parameters: Float[Array, " b k"],
        points: Float[Array, " #b *o n"],
        shape: Sequence[int],
        *,
        inverse: bool = False,
    ) -> Float[Array, " b *o n"]:
        """Moves points.

        Args:
            parameters: one vector a sample.
            points: in voxels; a batch of one is shared.
            shape: of the images in voxels, without batch and channels.
            inverse: moves by ``phi^-1``.

        Raises:
            ValueError: a wrong number of parameters or axes.
        """

    def coordinates(
        self, parameters: Float[Array, " b k"], shape: Sequence[int], *, inverse: bool = False
    ) -> Float[Array, " b *s n"]:
        """Where each voxel of an image of `shape` is sent, in voxels."""
        return self.move(parameters, identity_grid(shape)[None], shape, inverse=inverse)

    def pair(
        self, parameters: Float[Array, " b k"], shape: Sequence[int]
    ) -> tuple[Float[Array, " b *s n"], Float[Array, " b *s n"]]:
        """`coordinates` of the map and of its inverse."""
        there = self.coordinates(parameters, shape)
        return there, self.coordinates(parameters, shape, inverse=True)

    def ramped(
        self,
        parameters: Float[Array, " b k"],
        shape: Sequence[int],
        strength: Float[Array, ""] | float | int,
    ) -> Float[Array, " b k"]:
        """Parameters with their deformable part weakened: 0 leaves the linear part alone."""
        del shape, strength
        return parameters

    def bounded(
        self, parameters: Float[Array, " b k"], shape: Sequence[int]
    ) -> Float[Array, " b k"]:
        """Parameters kept smoothly below what moves an image out of sight.

        ``r tanh(parameters / r)``, odd, so that negative parameters still invert where they did.
        A network that starts to train may ask for maps whose exponential overflows.
        """
        reach = self.reach(shape)
        return reach * jnp.tanh(parameters / reach)

    def reach(self, shape: Sequence[int]) -> float:
        """The bound r: 2 for linear maps, in half images, radians and logarithms."""
        del shape
        return 2.0

    def velocity(
        self, parameters: Float[Array, " b k"], shape: Sequence[int]
    ) -> Float[Array, " b *s n"] | None:
        """The velocity field in voxels that the map flows along; None where there is none."""
        del parameters, shape


class _Linear(Transformer):
    """Maps given by a homogeneous matrix that acts in [-1, 1] about the centre of the image."""

    @abc.abstractmethod
    def matrix(self, parameters: Float[Array, " b k"], axes: int) -> Float[Array, " b m m"]:
        """Homogeneous matrices of the maps."""

    def inverse_matrix(self, parameters: Float[Array, " b k"], axes: int) -> Float[Array, " b m m"]:
        """Homogeneous matrices of the inverse maps."""
        return self.matrix(-parameters, axes)

    def move(self, parameters, points, shape, *, inverse=False):
        """See `Transformer.move`."""
        check_size(self, parameters, shape)
        parameters = parameters.astype(jnp.float32)
        matrix = (self.inverse_matrix if inverse else self.matrix)(parameters, len(shape))
        return transform_coordinates(matrix, points, shape, _half_sizes(shape))


@dataclasses.dataclass(frozen=True)
class DiffeomorphicAffine(_Linear):
    """``exp([[A, t], [0, 0]])``: every affine map that is a flow; -parameters is the inverse."""

    def size(self, shape: Sequence[int]) -> int:
        """6 in 2D, 12 in 3D."""
        return len(shape) * (len(shape) + 1)

    def matrix(self, parameters: Float[Array, " b k"], axes: int) -> Float[Array, " b m m"]:
        """The matrix exponential."""
        del axes
        return affine_exponential(parameters)


@dataclasses.dataclass(frozen=True)
class Rigid(_Linear):
    """Rotation and translation, the exponential of SE(n); -parameters is the inverse.

    Images whose axes differ in length are turned in the metric of [-1, 1], which for them is no
    rigid motion; use images with equal sides, or `DiffeomorphicAffine`.
    """

    def size(self, shape: Sequence[int]) -> int:
        """3 in 2D, 6 in 3D."""
        n = len(shape)
        return n * (n + 1) // 2

    def matrix(self, parameters: Float[Array, " b k"], axes: int) -> Float[Array, " b m m"]:
        """Closed form (Rodrigues)."""
        del axes
        return rigid_exponential(parameters)


@dataclasses.dataclass(frozen=True)
class Affine(_Linear):
    """``x + A x + t``: no constraint, may be singular; a baseline.

    The inverse is ``(A^-1, -A^-1 t)``, not the component-wise one of the reference implementation.
    """

    def size(self, shape: Sequence[int]) -> int:
        """6 in 2D, 12 in 3D."""
        return len(shape) * (len(shape) + 1)

    def matrix(self, parameters: Float[Array, " b k"], axes: int) -> Float[Array, " b m m"]:
        """Identity plus the parameters, row by row."""
        top = parameters.reshape(-1, axes, axes + 1)
        return jnp.eye(axes + 1) + jnp.concatenate([top, jnp.zeros_like(top[:, :1])], 1)

    def inverse_matrix(self, parameters: Float[Array, " b k"], axes: int) -> Float[Array, " b m m"]:
        """The true inverse."""
        return invert_affine(self.matrix(parameters, axes))


@dataclasses.dataclass(frozen=True)
class DecomposedAffine(_Linear):
    """``translate . rotate . shear . scale``, always invertible.

    Parameters: angles (radians), logarithms of the scales, shears, translations: 6 in 2D, 12 in
    3D. The inverse is that of the composition, not of each factor.
    """

    def size(self, shape: Sequence[int]) -> int:
        """6 in 2D, 12 in 3D."""
        return len(shape) * (len(shape) + 1)

    def matrix(self, parameters: Float[Array, " b k"], axes: int) -> Float[Array, " b m m"]:
        """See the class."""
        turns = axes * (axes - 1) // 2
        ends = (turns, turns + axes, 2 * turns + axes)
        rotation, scale, shear, shift = jnp.split(parameters, ends, axis=-1)
        return affine_matrix(rotation, jnp.exp(scale), shear, shift)

    def inverse_matrix(self, parameters: Float[Array, " b k"], axes: int) -> Float[Array, " b m m"]:
        """The true inverse."""
        return invert_affine(self.matrix(parameters, axes))


@dataclasses.dataclass(frozen=True)
class Composition(Transformer):
    """``phi = phi_first o phi_second``: points go through `second`, then through `first`.

    With a linear map first and a deformation second, the deformation works in the frame of the
    observed image. The inverse composes the inverses in reverse order.

    Attributes:
        first: outer map; `ramped` leaves it alone if it is linear.
        second: inner map.
    """

    first: Transformer
    second: Transformer

    def size(self, shape: Sequence[int]) -> int:
        """Parameters of `first`, then of `second`."""
        return self.first.size(shape) + self.second.size(shape)

    def move(self, parameters, points, shape, *, inverse=False):
        """See `Transformer.move`."""
        check_size(self, parameters, shape)
        one, two = self._parts(parameters, shape)
        if inverse:
            return self.second.move(
                two, self.first.move(one, points, shape, inverse=True), shape, inverse=True
            )
        return self.first.move(one, self.second.move(two, points, shape), shape)

    def coordinates(self, parameters, shape, *, inverse=False):
        """See `Transformer.coordinates`."""
        check_size(self, parameters, shape)
        one, two = self._parts(parameters, shape)
        if inverse:
            points = self.first.coordinates(one, shape, inverse=True)
            return self.second.move(two, points, shape, inverse=True)
        return self.first.move(one, self.second.coordinates(two, shape), shape)

    def ramped(self, parameters, shape, strength):
        """See `Transformer.ramped`."""
        one, two = self._parts(parameters, shape)
        parts = self.first.ramped(one, shape, strength), self.second.ramped(two, shape, strength)
        return jnp.concatenate(parts, -1)

    def bounded(self, parameters, shape):
        """See `Transformer.bounded`."""
        one, two = self._parts(parameters, shape)
        return jnp.concatenate(
            [self.first.bounded(one, shape), self.second.bounded(two, shape)], -1
        )

    def velocity(self, parameters, shape):
        """That of the part which has one."""
        one, two = self._parts(parameters, shape)
        found = self.second.velocity(two, shape)
        return self.first.velocity(one, shape) if found is None else found

    def _parts(self, parameters, shape):
        return jnp.split(parameters, [self.first.size(shape)], axis=-1)


def check_size(transformer: Transformer, parameters: Array, shape: Sequence[int]) -> None:
    """Refuses a wrong number of parameters.

    Raises:
        ValueError: it differs from ``transformer.size(shape)``.
    """
    wanted = transformer.size(shape)
    if parameters.ndim != 2 or parameters.shape[-1] != wanted:
        raise ValueError(
            f"parameters of shape {parameters.shape} for {transformer}: "
            f"images of shape {tuple(shape)} take [b, {wanted}]"
        )


def _half_sizes(shape: Sequence[int]) -> tuple[float, ...]:
    """Voxel size that puts the outermost voxel centres at -1 and 1."""
    return tuple(2.0 / max(size - 1, 1) for size in shape)
