"""What a classifying VAE is compared with: principal components, discriminants, clinical indices.

All end in a logistic regression of standardised features, by scikit-learn.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxmedgen.data.sources import Source
from jaxmedgen.metrics.cardiac import MUSCLE_DENSITY, ejection_fraction
from jaxmedgen.metrics.ventricle_wall import cavity, wall_surface

COMPONENTS = (2, 5, 10, 20, 40)
INDICES = ("mass", "EDV", "ESV", "EF", "max wall thickness")

Labelled = tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]


def flat_shapes(source: Source) -> Labelled:
    """All voxels of every subject, and the classes."""
    records = [source[i] for i in range(len(source))]
    shapes = np.stack([r["image"].ravel() for r in records]).astype(np.float32)
    return shapes, np.asarray([int(r["target"]) for r in records])


def accuracy(train: Labelled, test: Labelled) -> float:
    """Held-out accuracy of a logistic regression."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(model.fit(*train).score(*test))


def component_accuracies(
    train: Labelled, test: Labelled, components: Sequence[int] = COMPONENTS
) -> tuple[dict[int, float], float, float]:
    """Accuracy by number of components; share of the first one; accuracy of LDA on 20 of them."""
    most = max(*components, 20)
    found = PCA(most, svd_solver="randomized", random_state=0).fit(train[0])
    scores = [found.transform(shapes) for shapes in (train[0], test[0])]
    by_count = {
        t: accuracy((scores[0][:, :t], train[1]), (scores[1][:, :t], test[1])) for t in components
    }
    discriminant = LinearDiscriminantAnalysis().fit(scores[0][:, :20], train[1])
    linear = float(discriminant.score(scores[1][:, :20], test[1]))
    return by_count, float(found.explained_variance_ratio_[0]), linear


def clinical_features(source: Source) -> Labelled:
    """`INDICES` of every subject: g, ml, ml, a share, mm; blood is what the muscle encloses."""
    spacing = source.info.spacing
    ml = float(np.prod(spacing)) / 1000
    rows, target = [], []
    for index in range(len(source)):
        record = source[index]
        relaxed, squeezed = (record["image"][..., c] > 0.5 for c in range(2))
        volumes = [float(cavity(m).sum()) * ml for m in (relaxed, squeezed)]
        thickest = np.percentile(wall_surface(relaxed, spacing).thickness, 99)
        rows.append([
            MUSCLE_DENSITY * float(relaxed.sum()) * ml,
            *volumes,
            ejection_fraction(*volumes),
            float(thickest),
        ])  # fmt: skip
        target.append(int(record["target"]))
    return np.asarray(rows), np.asarray(target)
