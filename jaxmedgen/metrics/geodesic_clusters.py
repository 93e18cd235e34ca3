"""Clusters of latent vectors by the length of the ways between them in a Riemannian metric.

Latents on a curved manifold that lie close in a straight line may be far apart along the data.
Lengths are those of shortest ways through the graph of all latents, whose edges are straight pieces
measured in the metric; clusters are those of average linkage (scikit-learn).

Source: Tenenbaum, de Silva & Langford, "A global geometric framework for nonlinear dimensionality
reduction", Science 2000 (geodesics through a graph of the data).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.sparse.csgraph import shortest_path
from sklearn.cluster import AgglomerativeClustering

from jaxmedgen.ops.metric_shooting import path_energy
from jaxmedgen.ops.riemannian_metric import CentroidMetric

_CORNERS = 5


def graph_distances(
    metric: CentroidMetric, latents: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "n n"]:
    """Lengths of the shortest ways between latents that step from one to another.

    Args:
        metric: the metric.
        latents: all points, at least two.
    """
    first, second = np.triu_indices(len(latents), 1)
    t = jnp.linspace(0, 1, _CORNERS, dtype=latents.dtype)[:, None, None]

    @jax.jit
    def lengths(a, b):
        return path_energy(metric, (1 - t) * a + t * b)[1]

    edges = np.zeros((len(latents), len(latents)))
    edges[first, second] = np.asarray(lengths(latents[first], latents[second]))
    return shortest_path(edges, directed=False)


def clusters_of(distances: Float[np.ndarray, "n n"], count: int) -> Int[np.ndarray, " n"]:
    """Cluster of each point, average linkage.

    Args:
        distances: symmetric.
        count: number of clusters.
    """
    model = AgglomerativeClustering(count, metric="precomputed", linkage="average")
    return model.fit_predict(distances)
