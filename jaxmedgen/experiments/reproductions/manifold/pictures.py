"""Pictures of learned latent spaces: samples of every kind, a plane with its volume and ways."""

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxmedgen.experiments.classification import labelled_images
from jaxmedgen.experiments.reproductions.manifold.junctions import images
from jaxmedgen.experiments.reproductions.trained_model import TrainedModel
from jaxmedgen.ops.metric_shooting import geodesic_between, path_energy
from jaxmedgen.ops.riemannian_metric import CentroidMetric, inverse_log_volume
from jaxmedgen.report.pictures import montage

Picture = UInt8[np.ndarray, "h w 3"]
_SHOWN = 8
_SCALE = 3


def sample_rows(models: dict[str, tuple[TrainedModel, str]], shown: int = _SHOWN) -> Picture:
    """A row of training images of every class, then as many of each model's draws.

    Args:
        models: with the prior that is drawn from.
        shown: images a class.
    """
    first = next(iter(models.values()))[0]
    kinds, raw = first.system.kinds, labelled_images(first.sources.train)
    rows = [np.stack([raw.image[raw.kind == k][:shown] for k in range(kinds)])]
    rows += [images(model, prior, shown, 0) for model, prior in models.values()]
    cells = [_large(image) for row in rows for kind in row for image in kind]
    return montage(cells, columns=shown * kinds, gap=1)


def latent_plane(model: TrainedModel, kind: int) -> tuple[Picture, Picture]:
    """A plane of latents with its volume, draws and ways; images along a geodesic and a line.

    Args:
        model: with two latent dimensions.
        kind: whose plane.
    """
    system, variables = model.system, model.variables
    every = system.metric(variables)
    metric = CentroidMetric(*(x[kind] for x in every))
    centroids = np.asarray(metric.centroids)
    radius = 1.3 * float(np.abs(centroids).max())
    axis = jnp.linspace(-radius, radius, 120)
    grid = jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, 2)
    volume = jax.jit(lambda z: inverse_log_volume(metric, z))(grid).reshape(120, 120)
    keys = jax.random.split(jax.random.key(0), (system.kinds, 100))
    draws = {
        prior: np.asarray(
            jax.jit(lambda v, k, p=prior: system.draw(v, k, p)[kind])(variables, keys)
        )
        for prior in ("manifold", "wrapped", "normal")
    }
    path, line = longest_detour(metric)

    figure = matplotlib.figure.Figure(figsize=(9.6, 3.4), layout="constrained", dpi=110)
    for number, (prior, points) in enumerate(draws.items()):
        axes = figure.add_subplot(1, 3, number + 1, aspect="equal")
        shown = axes.contourf(np.asarray(axis), np.asarray(axis), np.asarray(volume), 20,
                              cmap="Greys_r")  # fmt: skip
        axes.scatter(*points.T, s=5, color="#E69F00", label="draws")
        axes.scatter(*centroids.T, s=12, color="#56B4E9", label="training images")
        axes.plot(*path.T, color="#009E73", label="geodesic")
        axes.plot(*line.T, color="#D55E00", lw=1, ls="--", label="straight line")
        axes.set(title=prior, xlim=(-radius, radius), ylim=(-radius, radius), xticks=(), yticks=())
    figure.colorbar(shown, ax=figure.axes, label="log sqrt det of the inverse metric")
    figure.axes[0].legend(fontsize=6, loc="lower left")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    plane = np.array(canvas.buffer_rgba())[..., :3]
    ways = np.stack([path[::2], line[::2]]).astype(np.float32)
    where = (
        jnp.zeros((system.kinds, ways.shape[0] * ways.shape[1], 2))
        .at[kind]
        .set(ways.reshape(-1, 2))
    )
    images = np.asarray(jax.jit(system.decode)(variables, where))[kind]
    return plane, montage([_large(image) for image in images], columns=ways.shape[1], gap=1)


def longest_detour(
    metric: CentroidMetric,
) -> tuple[Float[np.ndarray, "p d"], Float[np.ndarray, "p d"]]:
    """The geodesic and the straight line between two centroids that differ most in length.

    The ends lie across a hole of the data: the line is dear there, the geodesic goes round it.
    """
    centroids = metric.centroids
    first, second = np.triu_indices(len(centroids), 1)

    @jax.jit
    def ways(start, end):
        path = geodesic_between(metric, start, end)
        t = jnp.linspace(0.0, 1.0, len(path))[:, None, None]
        line = (1 - t) * start + t * end
        return path, line, path_energy(metric, path)[1] / path_energy(metric, line)[1]

    path, line, ratio = map(np.asarray, ways(centroids[first], centroids[second]))
    chosen = int(np.nanargmin(ratio))
    return path[:, chosen], line[:, chosen]


def _large(image):
    """Values in [0, 1] as grey bytes, magnified."""
    grey = np.clip(255 * image[..., 0], 0, 255).astype(np.uint8)
    return np.kron(grey, np.ones((_SCALE, _SCALE), np.uint8))
