"""How well latent variables tell the generative factors of data apart.

The D score asks whether each latent dimension matters to one factor only (Eastwood & Williams, "A
framework for the quantitative evaluation of disentangled representations", 2018). A regressor from
all latents to each factor gives importances R (latents x factors); with ``P_i = R_i / sum R_i``,
``D_i = 1 - H_K(P_i)`` (entropy to the base of the number of factors K) and
``D = sum_i rho_i D_i``, ``rho_i`` the share of latent i in all importances.

The score depends on the regressor, so there is one: random forests with a fixed seed.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Real
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.neighbors import KNeighborsClassifier

_TREES = 50
_LEAF = 10  # samples a leaf: deep trees split on noise, which blurs the importances


def importances(
    latents: Float[np.ndarray, "n d"], factors: Real[np.ndarray, "n k"], discrete: Sequence[bool]
) -> Float[np.ndarray, "d k"]:
    """How much each latent dimension contributes to predicting each factor.

    Mean decrease of impurity of a random forest; a factor's column sums to one, whatever share of
    the factor can be predicted.

    Args:
        latents: one row a sample.
        factors: one column a factor.
        discrete: whether a factor is a class index.

    Raises:
        ValueError: rows or columns that do not belong together.
    """
    if len(latents) != len(factors) or factors.shape[1] != len(discrete):
        raise ValueError(
            f"latents {latents.shape}, factors {factors.shape}, {len(discrete)} kinds: give a row "
            "a sample in both and a kind a factor"
        )
    columns = []
    for k, classes in enumerate(discrete):
        kind = RandomForestClassifier if classes else RandomForestRegressor
        forest = kind(_TREES, min_samples_leaf=_LEAF, random_state=0, max_features=None)
        target = factors[:, k].astype(int) if classes else factors[:, k]
        columns.append(forest.fit(latents, target).feature_importances_)
    return np.stack(columns, 1)


def group_importances(
    importance: Float[np.ndarray, "d k"], groups: Sequence[Sequence[int]]
) -> Float[np.ndarray, "d g"]:
    """Mean importance over the factors of each group, such as appearance and perspective."""
    return np.stack([importance[:, list(group)].mean(1) for group in groups], 1)


def d_score(importance: Float[np.ndarray, "d k"]) -> float:
    """Disentanglement of an importance matrix: 1 where each latent matters to one factor only.

    Raises:
        ValueError: fewer than two factors, or negative importances.
    """
    if importance.shape[1] < 2 or importance.min() < 0:
        raise ValueError(
            f"importances of shape {importance.shape}, least {importance.min():.3g}: give two or "
            "more factors and no negative number"
        )
    total = importance.sum(1)
    used = total > 0
    share = importance[used] / total[used, None]
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(1)
    scores = 1 - entropy / np.log(importance.shape[1])
    return float((total[used] * scores).sum() / total.sum()) if used.any() else 0.0


def probe_accuracy(
    train: Float[np.ndarray, "n d"],
    train_classes: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    test_classes: Int[np.ndarray, " m"],
    *,
    neighbours: int = 5,
) -> float:
    """Share of test samples whose class a k-nearest-neighbour vote finds."""
    probe = KNeighborsClassifier(neighbours).fit(train, train_classes)
    return float((probe.predict(test) == test_classes).mean())
