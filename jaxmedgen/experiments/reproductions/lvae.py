"""``bin/reproduce lvae``: a ladder whose two-dimensional top shows and tells the disease.

Ladder, VAEs of 64 and 2 dimensions, ablations (merge, warm-up, levels, classifier), linear rivals,
mean shapes of both classes, level-truncated reconstruction. Hippocampi are `lvae_hippocampi`; what
hangs on the length of the trainings is `lvae_settings`.
"""

import numpy as np
from sklearn.metrics import silhouette_score

from jaxmedgen.data.phantoms.left_ventricle import LeftVentricles
from jaxmedgen.experiments.remodelling import baselines, pictures, population
from jaxmedgen.experiments.remodelling.outcome import Outcome, observe
from jaxmedgen.experiments.reproductions.record import Claim, Options, Reproduction
from jaxmedgen.experiments.reproductions.remodelling.ladder_pictures import (
    eigenmap,
    ladder_pictures,
    wall_pictures,
)
from jaxmedgen.experiments.reproductions.remodelling.models import (
    Model,
    above,
    at_least,
    at_most,
    mean_accuracy,
    model_table,
    trained,
)
from jaxmedgen.experiments.reproductions.remodelling.rivals import rival_part
from jaxmedgen.metrics.classification import wilson_interval
from jaxmedgen.metrics.shape_model import dice

ARMS = {
    "lvae": 3,
    "vae64": 3,
    "vae2": 3,
    "plain": 3,
    "no-warm-up": 3,
    "vae2-free": 1,
    "lvae-free": 1,
    "levels2": 1,
}
"""Seeds of every arm; seeds differ in training and subjects. One level is the arm ``vae2``."""
COLLAPSED = 0.05
"""Nats."""
FILLED = 1.5
"""Decoded over true volume of the ED wall above which its cavity is filled."""
PUBLISHED = {
    "accuracy, 200 subjects / ACDC": "1.00 / 0.90",
    "Dice ED / ES, VAE": "0.71 ± 0.07 / 0.78 ± 0.06",
    "Dice ED / ES, LVAE": "0.79 ± 0.06 / 0.84 ± 0.05",
    "Hausdorff ED / ES in mm, VAE": "4.87 ± 1.23 / 5.09 ± 1.51",
    "Hausdorff ED / ES in mm, LVAE": "3.92 ± 1.08 / 4.09 ± 1.36",
    "Dice of one subject from z2 / z2, z1 / all": "0.65 / 0.69 / 0.90",
}
NOTES = (
    "Phantom ventricles, 32^3 voxels of 3.5 mm, 240 for training and 80 for testing a seed, z "
    "(32, 16, 2) and 1000 steps with the sheet's weights for short trainings; the published figures"
    " are of patients at 80^3, z (64, 32, 2) and up to 600,000 steps. Settings are those of the "
    "sheet's pilot, whose limit of 0.02 in (iii) was set after seeing one seed.",
    "Beside Dice half of the voxels' mean cross-entropy is minimised (criterion.voxels). By Dice "
    "alone the decoder of one seed in three (He's start; of two in three for 64 dimensions with "
    "the published start of 0.02) stalls at a filled ventricle, a soft Dice of 0.63, where the "
    "sigmoid has no slope left. The weight of a half was chosen by the training Dice of one "
    "stalled seed, of 0.5 and 2.",
    "Mean shapes: a Gaussian is fitted to each class's latent means of the training subjects, 1000 "
    "draws are decoded through prior means and their probability maps averaged. The true map is "
    "the mean thickening of the training subjects with the disease; the region is where it exceeds "
    "a fifth of its maximum.",
    "(vi) asks for a collapse of the ablations: it is a report, and counts seeds. A ladder of one "
    "level is the arm vae2.",
)


def reproduce(options: Options) -> Reproduction:
    """Trains what is not trained yet and checks the claims."""
    models = {arm: [trained(options, "lvae", arm, s) for s in range(n)] for arm, n in ARMS.items()}
    ladders = models["lvae"]
    seen = [observe(m.system, m.variables, m.sources.train) for m in ladders]
    claims = [*accuracy_claims(models, seen), *level_claims(models)]
    found, shapes, agreed = [], None, []
    for seed, (model, outcome) in enumerate(zip(ladders, seen)):
        drawn = population.class_shapes(
            model.system, model.variables, outcome.latents[model.system.top], outcome.target,
            seed=seed,
        )  # fmt: skip
        shapes = drawn if shapes is None else shapes
        agreed.append(template_dice(drawn, outcome))
        found.append(thickening_of(model, drawn))
    claims += [
        at_least("(v) thickening of the mean shapes inside the true region",
                 np.mean([t.inside() if t else 0.0 for t in found]), 0.7),
        at_least("(v) Pearson r of thickening and truth",
                 np.mean([t.correlation if t else 0.0 for t in found]), 0.6),
        *collapse_claims(models),
    ]  # fmt: skip
    return Reproduction(
        system="lvae",
        seeds=max(ARMS.values()),
        seconds=sum(m.seconds for group in models.values() for m in group),
        claims=tuple(claims),
        published=PUBLISHED,
        table="\n\n".join((
            model_table(models, ladders[0].sources.info.spacing),
            level_table(ladders),
            space_table(models),
            shape_table(found, agreed),
            rival_part(ladders)[1],
        )),
        pictures={
            **ladder_pictures(ladders[0], seen[0]),
            "mean_shapes": pictures.shape_rows([shapes[0], shapes[1]]),
            **wall_pictures(ladders[0], shapes, found[0]),
            "eigenmap_of_vae64": eigenmap(models["vae64"][0]),
        },
        notes=(*NOTES, filled_note(models)),
    )  # fmt: skip


def filled_note(models: dict[str, list[Model]]) -> str:
    """Which trainings decode a ventricle without its cavity, and what that does to the means."""
    filled = []
    for arm, group in models.items():
        for model in group:
            outcome = model.test
            ratio = float(outcome.kept[:, -1, ..., 0].sum() / outcome.shapes[..., 0].sum())
            if ratio > FILLED:
                filled.append(f"{arm}, seed {model.seed}: {ratio:.1f}")
    if not filled:
        return "Every model decodes ventricles with their cavity."
    return (
        "Some trainings stall at a decoder that fills the ventricle, a soft Dice of 0.63 from step "
        f"400 on. Decoded over true ED volume of these ({'; '.join(filled)}). Their classifiers "
        "work all the same, but their shapes drag down Dice, Hausdorff distance and claim (v), "
        "which counts them as 0. The decoder has four channels at full resolution, as published."
    )


def thickening_of(model: Model, drawn) -> population.Thickening | None:
    """Of a model's mean shapes; None where a mean shape has no closed wall."""
    subjects = LeftVentricles(len(model.sources.train), model.system.net.shape, model.seed)
    try:
        return population.thickening(drawn, subjects, model.sources.info.spacing)
    except ValueError:
        return None


def accuracy_claims(models: dict[str, list[Model]], seen: list[Outcome]) -> list[Claim]:
    """Claims (i) and (ii)."""
    ladders = models["lvae"]
    accuracy = mean_accuracy(ladders)
    hits = sum(round(m.test.scores.accuracy * len(m.test.target)) for m in ladders)
    interval = wilson_interval(hits, sum(len(m.test.target) for m in ladders))
    flat, linear = [], []
    for model, outcome in zip(ladders, seen):
        top = model.system.top
        flat.append(baselines.accuracy(
            (outcome.latents[top], outcome.target), (model.test.latents[top], model.test.target)
        ))  # fmt: skip
        shapes = [baselines.flat_shapes(s) for s in (model.sources.train, model.sources.test)]
        linear.append(baselines.component_accuracies(*shapes, components=(2,)))
    pca, lda = (np.mean([values[0][2] for values in linear]), np.mean([v[2] for v in linear]))
    return [
        Claim("(i) accuracy of the ladder", ">= 0.9", accuracy, interval, accuracy >= 0.9),
        at_most("(i) VAE(64) + MLP less the ladder", mean_accuracy(models["vae64"]) - accuracy,
                0.03),
        at_least("(ii) LR on the two top dimensions less PCA(2) + LR", np.mean(flat) - pca, 0.25),
        above("LR on the two top dimensions less LDA on PCA(20)", np.mean(flat) - lda, 0),
    ]  # fmt: skip


def level_claims(models: dict[str, list[Model]]) -> list[Claim]:
    """Claims (iii) and (iv)."""

    def mean_dice(arm: str, levels: int = 0) -> float:
        return float(np.mean([m.test.dice(levels).mean() for m in models[arm]]))

    steps = [mean_dice("lvae", k) for k in (1, 2, 3)]
    return [
        at_least(
            "(iii) Dice of the ladder less VAE(2)", mean_dice("lvae") - mean_dice("vae2"), 0.02
        ),
        above(
            "(iii, report) Dice of the ladder less VAE(64)",
            mean_dice("lvae") - mean_dice("vae64"),
            0,
        ),
        above("(iv) Dice of z2, z1 less z2", steps[1] - steps[0], 0),
        at_least("(iv) Dice of z2, z1, z0 less z2, z1", steps[2] - steps[1], 0),
    ]


def collapse_claims(models: dict[str, list[Model]]) -> list[Claim]:
    """Claim (vi): in how many seeds a level above the lowest says nothing."""
    claims = []
    for arm in ("plain", "no-warm-up", "lvae"):
        lost = [min(m.test.kl["z2"], m.test.kl["z1"]) < COLLAPSED for m in models[arm]]
        share = float(np.mean(lost))
        name = f"(vi) seeds in which z2 or z1 of '{arm}' collapses"
        claims.append(
            at_most(name, share, 0) if arm == "lvae" else at_least(name, share, round(2 / 3, 3))
        )
    return claims


def level_table(ladders: list[Model]) -> str:
    """Markdown: Dice of reconstructions from the topmost levels."""
    rows = ["Reconstruction from some levels, the others at prior means, Dice ED / ES:", "",
            "| levels | " + " | ".join(f"seed {k}" for k in range(len(ladders))) + " |",
            "|" + "---|" * (1 + len(ladders))]  # fmt: skip
    for count, name in enumerate(("z2", "z2, z1", "z2, z1, z0"), start=1):
        cells = [" / ".join(f"{v:.3f}" for v in m.test.dice(count).mean(1)) for m in ladders]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def space_table(models: dict[str, list[Model]]) -> str:
    """Markdown: how well the classes part in two dimensions, test subjects."""
    rows = ["Two-dimensional top latent spaces, test subjects, means over seeds:", "",
            "| arm | silhouette | KL from N(0, I), nats |", "|---|---|---|"]  # fmt: skip
    for arm, group in models.items():
        top = group[0].system.top
        if group[0].system.levels[top] == 2:
            apart = np.mean([silhouette_score(m.test.latents[top], m.test.target) for m in group])
            nats = np.mean([m.test.kl[top] for m in group])
            rows.append(f"| {arm} | {apart:.3f} | {nats:.2f} |")
    return "\n".join(rows)


def template_dice(shapes, seen: Outcome) -> dict[int, float]:
    """Dice of each class's sampled mean shape with the mean of its training masks, at 1/2."""
    scores = {}
    for kind, shape in shapes.items():
        template = seen.shapes[seen.target == kind].mean(0) > 0.5
        pairs = ((shape[None, ..., c] > 0.5, template[None, ..., c]) for c in range(2))
        scores[kind] = float(np.mean([dice(*pair)[0] for pair in pairs]))
    return scores


def shape_table(found: list[population.Thickening | None], agreed: list[dict[int, float]]) -> str:
    """Markdown: sampled mean shapes against the phantom, and thickening by AHA segment."""
    rows = ["Sampled mean shapes: Dice with the mean of the training masks, and their ED wall, HCM "
            "less healthy:", "",
            "| seed | Dice healthy | Dice HCM | Pearson r | inside the true region |",
            "|---|---|---|---|---|"]  # fmt: skip
    for seed, (one, scores) in enumerate(zip(found, agreed)):
        cells = f"{one.correlation:.3f} | {one.inside():.3f}" if one else "no closed wall | -"
        rows.append(f"| {seed} | {scores[0]:.3f} | {scores[1]:.3f} | {cells} |")
    measured = [one.segments for one in found if one]
    if not measured:
        return "\n".join(rows)
    segments = np.nanmean(measured, axis=0)
    rows += ["", "Thickening in mm by AHA segment, mean over seeds:", "",
             "| " + " | ".join(str(k + 1) for k in range(len(segments))) + " |",
             "|" + "---|" * len(segments),
             "| " + " | ".join(f"{value:.1f}" for value in segments) + " |"]  # fmt: skip
    return "\n".join(rows)
