"""What classifiers without a deep model make of the subjects of trained models."""

from collections.abc import Sequence

import numpy as np

from jaxmedgen.experiments.remodelling import baselines
from jaxmedgen.experiments.reproductions.remodelling.models import Model


def rival_part(models: list[Model]) -> tuple[dict[str, float], str]:
    """Principal components and clinical indices on the same subjects.

    Returns:
        Accuracies of the best of few principal components (``PCA``), of the most components,
        of the ED ``mass`` alone and of all clinical ``indices``; and the table.
    """
    by_seed, mass, indices, shares = [], [], [], []
    for model in models:
        train, test = (baselines.flat_shapes(s)
                       for s in (model.sources.train, model.sources.test))  # fmt: skip
        accuracies, share, linear = baselines.component_accuracies(train, test)
        by_seed.append([*accuracies.values(), linear])
        shares.append(share)
        known = [baselines.clinical_features(s) for s in (model.sources.train, model.sources.test)]
        indices.append(baselines.accuracy(*known))
        mass.append(baselines.accuracy(*((x[:, :1], y) for x, y in known)))
    found = np.mean(by_seed, 0)
    small = [a for a, t in zip(found, baselines.COMPONENTS) if t <= 10]
    names = [f"PCA({t}) + LR" for t in baselines.COMPONENTS] + ["PCA(20) + LDA"]
    cells = [*found, np.mean(mass), np.mean(indices), np.mean(shares)]
    names += ["ED mass + LR", f"{', '.join(baselines.INDICES)} + LR", "variance of PC1"]
    table = accuracy_table(names, cells)
    return {
        "PCA": float(max(small)),
        "most components": float(found[len(baselines.COMPONENTS) - 1]),
        "mass": float(np.mean(mass)),
        "indices": float(np.mean(indices)),
    }, table


def accuracy_table(names: Sequence[str], values: Sequence[float]) -> str:
    """Markdown: what is reached without a deep model, a column each."""
    return "\n".join([
        "Without a deep model, means over seeds:",
        "",
        "| " + " | ".join(names) + " |",
        "|" + "---|" * len(names),
        "| " + " | ".join(f"{value:.3f}" for value in values) + " |",
    ])  # fmt: skip
