"""Pictures of the claims: surfaces, uncertainty maps, the first latent level."""

import jax
import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_predict

from jaxmedgen.experiments.reconstruction import pictures
from jaxmedgen.experiments.reconstruction.scoring import NESTED, Builder, availability, stacked
from jaxmedgen.experiments.reproductions.skulls.models import Model
from jaxmedgen.metrics.head import head_biometry
from jaxmedgen.metrics.uncertainty import uncertainty_map
from jaxmedgen.report.pictures import montage

_SHOWN = 4


def surfaces(models: tuple[Model, ...]) -> np.ndarray:
    """Rows: test heads. Columns: planes, truth, each model with 3, 2 and 1 views."""
    test = models[0].runs[0].test
    cases, spacing = stacked(test), test.info.spacing
    builders = [Builder(m.runs[0].system, m.runs[0].variables) for m in models]
    rows = []
    for i in range(_SHOWN):
        truth = cases["label"][i].astype(np.float32)
        rows += [
            pictures.plane_row(cases["planes"][i], cases["available"][i]),
            pictures.surface(truth, spacing),
        ]
        for builder in builders:
            for views in NESTED:
                kept = availability(views, cases["available"][i : i + 1])
                built = builder.volumes(cases["planes"][i : i + 1], kept)[0]
                rows.append(pictures.surface(built, spacing))
    return montage(rows, columns=2 + 3 * len(models))


def uncertainty(model: Model) -> np.ndarray:
    """For two test heads and 3, 2, 1 views: truth, prediction, error, uncertainty; surfaces."""
    run = model.runs[0]
    cases, spacing = stacked(run.test), run.test.info.spacing
    builder, cells = Builder(run.system, run.variables), []
    for i in range(2):
        truth = cases["label"][i].astype(np.float32)
        for views in NESTED:
            kept = availability(views, cases["available"][i : i + 1])
            built = builder.volumes(cases["planes"][i : i + 1], kept)[0]
            spread = uncertainty_map(builder.draws(cases["planes"][i], kept[0], seed=i))
            cells.append(pictures.uncertainty_sections(truth, built, spread))
            cells.append(pictures.surface(built, spacing, spread, largest=0.5))
    return montage(cells, columns=2)


def first_level(model: Model) -> tuple[np.ndarray, float]:
    """The means of the first level's posterior, and how well they tell the cephalic index.

    Returns:
        A scatter plot of test heads over two principal components, coloured by the index of the
        true mask (BPD / OFD); R^2 of a cross-validated ridge regression of it on the level.
    """
    run = model.runs[0]
    cases, spacing = stacked(run.test), run.test.info.spacing
    means = _posterior_means(run, cases)
    sizes = [head_biometry(label > 0, spacing) for label in cases["label"]]
    index = np.array([s.bpd / s.ofd for s in sizes])
    found = cross_val_predict(Ridge(1.0), means, index, cv=min(8, len(index)))
    explained = 1 - float(np.sum((found - index) ** 2) / np.sum((index - index.mean()) ** 2))
    places = PCA(2).fit_transform(means)
    figure = Figure(figsize=(5, 4), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    dots = axes.scatter(*places.T, c=index, s=[s.bpd for s in sizes],
                        cmap=matplotlib.colormaps["viridis"])  # fmt: skip
    axes.set(xlabel="first component", ylabel="second component")
    figure.colorbar(dots, label="cephalic index (size: BPD)")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy(), explained


def _posterior_means(run, cases) -> Float[np.ndarray, "n d"]:
    return np.asarray(jax.jit(run.system.encode_levels)(run.variables, cases)["level1"][0])
