"""``bin/reproduce lvae_hippocampi``: the ladder VAE on a second organ, with its rivals.

Hippocampus-like phantoms, healthy or with a head that the disease narrows by 5 to 15 %; sizes
differ by 10 %, so that volume hardly tells. Three seeds of training and subjects for the ladder and
for VAEs of 64 and of 2 dimensions; where the mean shapes of the classes differ; principal
components and volume. The ventricles are `lvae`.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.phantoms.hippocampus import CLASSES, Hippocampi
from jaxmedgen.experiments.remodelling import baselines, pictures, population
from jaxmedgen.experiments.remodelling.outcome import Outcome, observe
from jaxmedgen.experiments.reproductions.record import Claim, Options, Reproduction
from jaxmedgen.experiments.reproductions.remodelling.models import (
    Model,
    above,
    at_least,
    at_most,
    mean_accuracy,
    model_table,
    trained,
)
from jaxmedgen.experiments.reproductions.remodelling.rivals import accuracy_table

ARMS = ("lvae", "vae64", "vae2")
SEEDS = 3
COMPONENTS = (2, 5, 10, 20, 40)
PUBLISHED = {
    "ADNI": "the abstract of Biffi et al. (TMI 2020): high accuracy, no number for hippocampi"
}
NOTES = (
    "Phantom hippocampi, 32^3 voxels of 1.9 mm, 240 for training and 80 for testing a seed, "
    "healthy and diseased alternating. Settings are those of the ventricles; none was chosen here. "
    "Nobody gives a number for this organ: the limits are those of the ventricles, and of claims "
    "without a limit there only the sign is asked for.",
    "Mean shapes: a Gaussian is fitted to each class's latent means of the training subjects, 1000 "
    "draws are decoded, with the levels below at their prior means or drawn, and their probability "
    "maps averaged. The true map is "
    "the mean mask of the training subjects of the disease less that of the same subjects with "
    "their heads unharmed, which leaves out that the classes also differ by chance.",
)


@dataclasses.dataclass(frozen=True)
class Shrinkage:
    """Where the mean diseased shape differs from the mean healthy one.

    Attributes:
        difference: of the sampled mean probability maps, diseased less healthy.
        truth: of the phantom: the disease's effect, mean over its diseased subjects.
        head: the half of the field of view that the head is in, mean over subjects.
    """

    difference: Float[np.ndarray, "d h w"]
    truth: Float[np.ndarray, "d h w"]
    head: Float[np.ndarray, "d h w"]

    @property
    def correlation(self) -> float:
        """Pearson's r of the two maps, over voxels where either is not 0."""
        touched = (np.abs(self.difference) > 1e-3) | (np.abs(self.truth) > 1e-3)
        return float(np.corrcoef(self.difference[touched], self.truth[touched])[0, 1])

    @property
    def in_head(self) -> float:
        """Part of the lost volume that lies in the half of the head; NaN where nothing is lost."""
        return _share(self.difference, self.head)

    @property
    def true_in_head(self) -> float:
        """The same of the truth."""
        return _share(self.truth, self.head)


def shrinkage(shapes: dict[int, Float[np.ndarray, "d h w c"]], source: Hippocampi) -> Shrinkage:
    """Compares sampled mean shapes with what the disease does to a phantom's subjects.

    Args:
        shapes: mean probability maps by class, of the grid of `source`.
        source: phantom subjects; of these the diseased ones are rendered with and without disease.
    """
    grid = source.shape
    subjects = [source.hippocampus(i) for i in range(len(source))]
    diseased = [h for h in subjects if h.shrinkage > 0]
    effects = [
        h.mask(grid).astype(float) - dataclasses.replace(h, shrinkage=0.0).mask(grid)
        for h in diseased
    ]
    heads = [h.head(grid).astype(float) for h in subjects]
    difference = np.asarray(shapes[1][..., 0]) - np.asarray(shapes[0][..., 0])
    return Shrinkage(difference, np.mean(effects, 0), np.mean(heads, 0))


def reproduce(options: Options) -> Reproduction:
    """Trains what is not trained yet and checks the claims."""
    models = {
        arm: [trained(options, "lvae", arm, s, ",data=hippocampus") for s in range(SEEDS)]
        for arm in ARMS
    }
    ladders = models["lvae"]
    seen = [observe(m.system, m.variables, m.sources.train) for m in ladders]
    drawn = {
        name: [mean_shapes(model, outcome, below) for model, outcome in zip(ladders, seen)]
        for name, below in population.BELOW.items()
    }
    lost = {
        name: [
            shrinkage(shapes, Hippocampi(len(m.sources.train), m.system.net.shape, m.seed))
            for m, shapes in zip(ladders, group)
        ]
        for name, group in drawn.items()
    }
    rivals, rival_table = rival_part(ladders)
    flat = [top_accuracy(m, outcome) for m, outcome in zip(ladders, seen)]
    accuracy = mean_accuracy(ladders)
    claims = (
        at_most("VAE(64) + MLP less the ladder, accuracy",
                mean_accuracy(models["vae64"]) - accuracy, 0.03),
        at_least("LR on the two top dimensions less PCA(2) + LR", np.mean(flat) - rivals["PCA(2)"],
                 0.25),
        above("ladder less volume + LR, accuracy", accuracy - rivals["volume"], 0),
        above("ladder less the best of PCA + LR, accuracy", accuracy - rivals["best PCA"], 0),
        above("Dice of the ladder less VAE(2)",
              _mean_dice(ladders) - _mean_dice(models["vae2"]), 0),
        *(claim for name, group in lost.items() for claim in shape_claims(name, group)),
    )  # fmt: skip
    return Reproduction(
        system="lvae",
        seeds=SEEDS,
        seconds=sum(m.seconds for group in models.values() for m in group),
        claims=(_accuracy_claim(accuracy), *claims),
        published=PUBLISHED,
        table="\n\n".join((
            model_table(models, ladders[0].sources.info.spacing),
            rival_table,
            shape_table(lost, flat),
        )),
        pictures={
            "latent_space": latent_space(ladders[0], seen[0]),
            "mean_shapes": pictures.shape_rows([
                group[0][kind] for group in drawn.values() for kind in (0, 1)
            ]),
            "shrinkage": pictures.shape_rows([
                _signed(x)
                for x in (*(g[0].difference for g in lost.values()), lost["prior means"][0].truth)
            ]),
        },
        notes=NOTES,
    )  # fmt: skip


def shape_claims(name: str, lost: list[Shrinkage]) -> tuple[Claim, Claim]:
    """Where the disease takes volume, for one way below the top."""
    return (
        at_least(f"lost volume of the mean shapes in the half of the head, {name}",
                 np.mean([s.in_head for s in lost]), 0.7),
        at_least(f"Pearson r of the mean shapes' difference and the truth, {name}",
                 np.mean([s.correlation for s in lost]), 0.6),
    )  # fmt: skip


def mean_shapes(
    model: Model, seen: Outcome, below: bool
) -> dict[int, Float[np.ndarray, "d h w c"]]:
    """Sampled mean probability map of each class; with the levels below the top drawn or not."""
    top = seen.latents[model.system.top]
    return population.class_shapes(
        model.system, model.variables, top, seen.target, seed=model.seed, sample_below=below
    )


def rival_part(models: list[Model]) -> tuple[dict[str, float], str]:
    """Accuracies of ``PCA(2)``, of the ``best PCA`` and of ``volume``, means over seeds; table."""
    rows = []
    for model in models:
        train, test = (baselines.flat_shapes(s)
                       for s in (model.sources.train, model.sources.test))  # fmt: skip
        by_count, share, linear = baselines.component_accuracies(train, test, COMPONENTS)
        volumes = [(shapes.sum(1, keepdims=True), target) for shapes, target in (train, test)]
        rows.append([*by_count.values(), linear, baselines.accuracy(*volumes), share])
    found = np.mean(rows, 0)
    names = [f"PCA({t}) + LR" for t in COMPONENTS]
    names += ["PCA(20) + LDA", "volume + LR", "variance of PC1"]
    components = found[: len(COMPONENTS)]
    return {
        "PCA(2)": float(components[COMPONENTS.index(2)]),
        "best PCA": float(components.max()),
        "volume": float(found[-2]),
    }, accuracy_table(names, found)


def top_accuracy(model: Model, seen: Outcome) -> float:
    """Held-out accuracy of a logistic regression on the topmost level."""
    top = model.system.top
    known = (seen.latents[top], seen.target)
    return baselines.accuracy(known, (model.test.latents[top], model.test.target))


def shape_table(lost: dict[str, list[Shrinkage]], flat: list[float]) -> str:
    """Markdown: where the sampled mean shapes lose volume, a line a seed."""
    rows = [
        "Sampled mean shapes, diseased less healthy, and accuracy of a logistic regression of z2:",
        "",
        "| below the top | seed | lost volume in the half of the head | the same, truth "
        "| Pearson r | LR |",
        "|" + "---|" * 6,
    ]
    for name, group in lost.items():
        for seed, (one, accuracy) in enumerate(zip(group, flat)):
            rows.append(
                f"| {name} | {seed} | {one.in_head:.3f} | {one.true_in_head:.3f} "
                f"| {one.correlation:.3f} | {accuracy:.3f} |"
            )
    return "\n".join(rows)


def latent_space(model: Model, seen: Outcome) -> np.ndarray:
    """The two-dimensional top with the subjects of both classes."""
    top = model.system.top
    labels = ("first dimension of z2", "second dimension")
    return pictures.scatter(model.test.latents[top], model.test.target, CLASSES, labels=labels)


def _accuracy_claim(accuracy: float) -> Claim:
    return at_least("accuracy of the ladder", accuracy, 0.9)


def _mean_dice(models: list[Model]) -> float:
    return float(np.mean([m.test.dice().mean() for m in models]))


def _share(difference, head) -> float:
    lost = np.maximum(-difference, 0)
    return float((lost * head).sum() / lost.sum()) if lost.any() else float("nan")


def _signed(difference):
    """A map of loss and gain in grey: 0.5 is no change."""
    largest = max(float(np.abs(difference).max()), 1e-9)
    return (0.5 + 0.5 * difference / largest)[..., None]
