"""Principal components as a model of shape, and their probabilistic form with a likelihood.

PCA: ``x = m + Phi_t b``, ``b_i ~ N(0, lambda_i)`` (Cootes, Taylor, Cooper & Graham, "Active shape
models", CVIU 61, 1995). Probabilistic: ``x ~ N(m, W W^T + s^2 I)`` with
``W = U (Lambda - s^2 I)^{1/2}`` (Tipping & Bishop, "Probabilistic principal component analysis",
JRSS B 61, 1999). Vectors are voxels, signed distances or coordinates of landmarks. All functions
work inside `jax.jit`.
"""

import math

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from jaxmedgen.types import Leaf


@struct.dataclass
class PCAShapeModel:
    """A linear shape model.

    Attributes:
        mean: m, ``[d]``.
        components: rows phi_i, orthonormal, ``[t, d]``.
        eigenvalues: lambda_i of the covariance (divided by N - 1), falling, ``[t]``.
        total: sum of all eigenvalues, scalar.
    """

    mean: Leaf
    components: Leaf
    eigenvalues: Leaf
    total: Leaf

    def encode(self, x: Float[Array, " b d"]) -> Float[Array, " b t"]:
        """``b = Phi^T (x - m)``, in the data's units: not whitened."""
        return (x - self.mean) @ self.components.T

    def decode(self, b: Float[Array, " b t"]) -> Float[Array, " b d"]:
        """``m + Phi b``."""
        return self.mean + b @ self.components

    def draw(
        self, noise: Float[Array, " b t"], limit: float | int = math.inf
    ) -> Float[Array, " b d"]:
        """Shapes of standard normal noise, each coordinate within `limit` deviations."""
        return self.decode(jnp.clip(noise, -limit, limit) * jnp.sqrt(self.eigenvalues))


@struct.dataclass
class PPCA:
    """Probabilistic principal components: ``x ~ N(mean, weights^T weights + noise I)``.

    Attributes:
        mean: ``[d]``.
        weights: rows of W^T, orthogonal, ``[t, d]``.
        noise: s^2, the mean of the eigenvalues left out, scalar.
    """

    mean: Leaf
    weights: Leaf
    noise: Leaf

    def posterior(self, x: Float[Array, " b d"]) -> tuple[Float[Array, " b t"], Float[Array, " t"]]:
        """Mean of ``p(z|x)``, and its variance, which is diagonal and no function of x."""
        precision = (self.weights**2).sum(-1) / self.noise + 1
        mean = (x - self.mean) @ self.weights.T / self.noise
        return mean / precision, 1 / precision

    def decode(self, z: Float[Array, " b t"]) -> Float[Array, " b d"]:
        """``m + W z``."""
        return self.mean + z @ self.weights

    def log_likelihood(self, x: Float[Array, " b d"]) -> Float[Array, " b"]:
        """``log p(x)`` in nats, in closed form."""
        centred, d = x - self.mean, x.shape[-1]
        strengths = (self.weights**2).sum(-1)
        # Woodbury: along each weight the variance is strength + noise, elsewhere noise.
        along = (centred @ self.weights.T) ** 2 / (self.noise * (strengths + self.noise))
        distance = (centred**2).sum(-1) / self.noise - along.sum(-1)
        spread = jnp.log(strengths + self.noise).sum()
        spread = spread + (d - len(strengths)) * jnp.log(self.noise)
        return -0.5 * (d * math.log(2 * math.pi) + spread + distance)


def fit_principal_components(x: Float[Array, " n d"], count: int) -> PCAShapeModel:
    """The first components of some vectors.

    By the smaller of the two eigenvalue problems: of the covariance, or of the Gram matrix where
    there are fewer vectors than coordinates.

    Args:
        x: vectors.
        count: t, at most ``min(n - 1, d)``.

    Raises:
        ValueError: more components than the vectors have.
    """
    n, d = x.shape
    if not 1 <= count <= min(n - 1, d):
        raise ValueError(
            f"count={count} components of {n} vectors of length {d}: give 1 to {min(n - 1, d)}"
        )
    mean = x.mean(0)
    centred = x - mean
    gram = n < d
    square = centred @ centred.T if gram else centred.T @ centred
    values, vectors = jnp.linalg.eigh(square / (n - 1))
    kept = jnp.maximum(values[::-1][:count], 0.0)
    vectors = vectors[:, ::-1][:, :count].T
    if gram:
        vectors = vectors @ centred / jnp.sqrt(jnp.maximum(kept * (n - 1), 1e-12))[:, None]
    return PCAShapeModel(mean, vectors, kept, jnp.trace(square) / (n - 1))


def probabilistic(model: PCAShapeModel) -> PPCA:
    """The maximum-likelihood probabilistic model of fitted components.

    Raises:
        ValueError: no coordinate is left for the noise.
    """
    count, d = model.components.shape
    if count >= d:
        raise ValueError(f"{count} components of vectors of length {d} leave none for the noise")
    noise = jnp.maximum((model.total - model.eigenvalues.sum()) / (d - count), 1e-12)
    scale = jnp.sqrt(jnp.maximum(model.eigenvalues - noise, 0.0))
    return PPCA(model.mean, scale[:, None] * model.components, noise)


def components_for(model: PCAShapeModel, share: float | int) -> Bool[Array, " t"]:
    """Which components are needed to explain a share of the variance (usually 0.90 to 0.98)."""
    before = (jnp.cumsum(model.eigenvalues) - model.eigenvalues) / model.total
    return before < share


def principal_angle(a: Float[Array, " t d"], b: Float[Array, " t d"]) -> Float[Array, ""]:
    """Largest angle in degrees between the spaces that the rows of two matrices span.

    Raises:
        ValueError: matrices of different shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"principal_angle: rows of {a.shape} and {b.shape} must be alike")
    first, second = jnp.linalg.qr(a.T)[0], jnp.linalg.qr(b.T)[0]
    # By the sine: the cosine of a small angle is 1 in float32.
    outside = second - first @ (first.T @ second)
    sine = jnp.linalg.norm(outside, 2)
    return jnp.rad2deg(jnp.arcsin(jnp.clip(sine, 0.0, 1.0)))
