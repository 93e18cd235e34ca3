"""Laplacian eigenmaps: a picture of a latent space in which neighbours stay neighbours.

Belkin & Niyogi, "Laplacian eigenmaps for dimensionality reduction and data representation", 2003;
the extension to new points is Nystroem's (Bengio et al., "Out-of-sample extensions", 2004).
"""

import dataclasses

import numpy as np
import scipy.sparse
from jaxtyping import Float
from scipy.sparse.csgraph import connected_components
from sklearn.manifold import spectral_embedding
from sklearn.neighbors import NearestNeighbors, kneighbors_graph


@dataclasses.dataclass(frozen=True)
class LaplacianEigenmap:
    """An embedding of points.

    Attributes:
        points: the points.
        coordinates: of the points; ``sum_i degree_i f_i^2 = 1`` in every dimension, the entry of
            largest size is positive.
        eigenvalues: of ``L f = lambda D f``, ascending, without the constant solution.
        scale: sigma of the weights ``exp(-|a - b|^2 / (2 sigma^2))``.
        neighbours: of each point in the graph, as many as it took to connect it.
    """

    points: Float[np.ndarray, "n d"]
    coordinates: Float[np.ndarray, "n k"]
    eigenvalues: Float[np.ndarray, " k"]
    scale: float
    neighbours: int

    def transform(self, points: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m k"]:
        """Coordinates of new points: ``sum_i w_i f_i / ((1 - lambda) sum_i w_i)`` over neighbours.

        A point far from all others takes the mean of its neighbours' coordinates.
        """
        search = NearestNeighbors(n_neighbors=self.neighbours).fit(self.points)
        distance, index = search.kneighbors(points)
        exponent = distance**2 / (2 * self.scale**2)
        # Relative to the nearest: weights of a far point would all be 0.
        weights = np.exp(exponent.min(1, keepdims=True) - exponent)
        weights /= weights.sum(1, keepdims=True)
        mean = (weights[..., None] * self.coordinates[index]).sum(1)
        return mean / (1 - self.eigenvalues)


def laplacian_eigenmap(
    points: Float[np.ndarray, "n d"], dimensions: int = 2, neighbours: int = 10
) -> LaplacianEigenmap:
    """Embeds points by the union graph of their nearest neighbours with heat weights.

    Sigma is the median distance to the neighbours. A graph in several pieces would have several
    zero eigenvalues: neighbours are added until it is connected.

    Args:
        points: latent vectors.
        dimensions: of the picture.
        neighbours: of each point to begin with.

    Raises:
        ValueError: too few points.
    """
    if len(points) <= max(neighbours, dimensions + 1):
        raise ValueError(
            f"{len(points)} points: give more than neighbours={neighbours} and dimensions + 1"
        )
    points = np.asarray(points, np.float64)
    while True:
        distances = kneighbors_graph(points, neighbours, mode="distance")
        union = distances.maximum(distances.T).tocsr()
        if connected_components(union, directed=False)[0] == 1 or neighbours + 1 >= len(points):
            break
        neighbours += 1
    scale = float(np.median(distances.data))
    weights = union.copy()
    weights.data = np.exp(-(union.data**2) / (2 * scale**2))
    embedded = spectral_embedding(weights, n_components=dimensions, random_state=0)
    degree = np.asarray(weights.sum(1)).ravel()
    embedded = embedded / np.sqrt((degree[:, None] * embedded**2).sum(0))
    largest = embedded[np.abs(embedded).argmax(0), np.arange(dimensions)]
    embedded = embedded * np.sign(largest)
    laplacian = scipy.sparse.diags(degree) - weights
    values = np.einsum("nk,nk->k", embedded, laplacian @ embedded)
    order = np.argsort(values)
    return LaplacianEigenmap(points, embedded[:, order], values[order], scale, neighbours)
