"""``bin/reproduce hcm_vae``: a VAE of ventricles whose latent vector tells hypertrophy.

Five arms and three seeds (training and subjects), principal components and clinical indices, the
walk from healthy to diseased, another population.
"""

import numpy as np

from jaxmedgen.data.phantoms.left_ventricle import LeftVentricles
from jaxmedgen.experiments.remodelling import baselines, pictures
from jaxmedgen.experiments.remodelling.navigation import Walk, walk
from jaxmedgen.experiments.remodelling.outcome import observe
from jaxmedgen.experiments.remodelling.population import thickening
from jaxmedgen.experiments.reproductions.record import Claim, Options, Reproduction
from jaxmedgen.experiments.reproductions.remodelling.models import (
    Model,
    above,
    at_least,
    at_most,
    external,
    mean_accuracy,
    model_table,
    trained,
)
from jaxmedgen.experiments.reproductions.remodelling.rivals import rival_part
from jaxmedgen.metrics.classification import wilson_interval
from jaxmedgen.metrics.laplacian_eigenmaps import laplacian_eigenmap
from jaxmedgen.metrics.ventricle_wall import thickness_map, wall_surface

ARMS = ("vae-mlp", "two-stage", "beta0", "ae-mlp", "cnn")
SEEDS = 3
PUBLISHED = {
    "accuracy, 200 subjects (100 HCM)": 1.0,
    "accuracy, ACDC (20 HCM of 40)": 0.9,
    "Dice ED / ES": "0.71 ± 0.07 / 0.78 ± 0.06",
    "Hausdorff ED / ES, mm": "4.87 ± 1.23 / 5.09 ± 1.51",
}
NOTES = (
    "Phantom ventricles, 32^3 voxels of 3.5 mm, 240 for training and 80 for testing a seed; the "
    "published figures are of patients at 80^3 and of 96,000 steps. Hyperparameters are those of "
    "the sheet's pilot, which was scored on a test set of one seed of such a phantom.",
    "two-stage: the classifier's loss never reaches the encoder; the VAE rests after 70 % of the "
    "steps. External: septal bumps of 0.6 of the amplitude, bodies 10 % larger, masks blurred by "
    "3 mm. Walks stay within the largest norm of a training subject's latent mean; "
    "the true region is where the mean thickening of the diseased exceeds a fifth of its maximum.",
    "The sheet's phantom has its first principal component at 20 % of the variance; this one, built"
    " from the same description, is measured in the table.",
)  # fmt: skip


def reproduce(options: Options) -> Reproduction:
    """Trains what is not trained yet and checks the claims."""
    models = {arm: [trained(options, "hcm_vae", arm, s) for s in range(SEEDS)] for arm in ARMS}
    joint = models["vae-mlp"]
    rivals, rival_table = rival_part(joint)
    walks, walk_table, shown = walk_part(joint)
    accuracy = mean_accuracy(joint)
    hits = sum(round(m.test.scores.accuracy * len(m.test.target)) for m in joint)
    interval = wilson_interval(hits, sum(len(m.test.target) for m in joint))
    outside = float(np.mean([external(m).scores.accuracy for m in joint]))
    claims = (
        Claim("(i) accuracy of VAE + MLP", ">= 0.9", accuracy, interval, accuracy >= 0.9),
        at_least("(i) less the best PCA (t <= 10) + LR", accuracy - rivals["PCA"], 0.15),
        at_least("(i) less ED mass + LR", accuracy - rivals["mass"], 0.2),
        at_most("(ii) CNN less VAE + MLP", mean_accuracy(models["cnn"]) - accuracy, 0.05),
        *walks,
        above("(iv) joint less two-stage", accuracy - mean_accuracy(models["two-stage"]), 0),
        above("(v) accuracy, external population", outside, 0.75),
        above("(v) drop from test to external population", accuracy - outside, 0),
    )
    table = "\n\n".join((
        model_table(models, joint[0].sources.info.spacing),
        latent_table(models),
        rival_table,
        walk_table,
    ))  # fmt: skip
    return Reproduction(
        system="hcm_vae",
        seeds=SEEDS,
        seconds=sum(m.seconds for group in models.values() for m in group),
        claims=claims,
        published=PUBLISHED,
        table=table,
        pictures=shown,
        notes=(*NOTES, _note(accuracy, rivals, models)),
    )


def _note(accuracy: float, rivals: dict[str, float], models: dict[str, list[Model]]) -> str:
    """What the claims do not ask: rivals that are as good."""
    indices, components = rivals["indices"], rivals["most components"]
    return (
        f"Nothing here needs a deep model to be told: clinical indices reach {indices:.3f} once "
        "the largest wall thickness is among them, since this disease is a thickening, and "
        f"{baselines.COMPONENTS[-1]} principal components {components:.3f}, against "
        f"{accuracy:.3f}. What the model adds is that the short vector it classifies can be "
        "decoded. Drawing that vector costs some accuracy: the autoencoder has "
        f"{mean_accuracy(models['ae-mlp']):.3f}."
    )


def latent_table(models: dict[str, list[Model]]) -> str:
    """Markdown: what a logistic regression reads off the latent means of every arm."""
    rows = ["Logistic regression on the latent means of the training subjects, test accuracy:", "",
            "| arm | accuracy |", "|---|---|"]  # fmt: skip
    for arm, group in models.items():
        scores = []
        for model in group:
            seen = observe(model.system, model.variables, model.sources.train)
            top = model.system.top
            known = (seen.latents[top], seen.target)
            scores.append(baselines.accuracy(known, (model.test.latents[top], model.test.target)))
        rows.append(f"| {arm} | {np.mean(scores):.3f} |")
    return "\n".join(rows)


def walk_part(models: list[Model]):
    """From the mean healthy training subject to the disease, one walk a seed."""
    walks, shown = [], {}
    for seed, model in enumerate(models):
        seen = observe(model.system, model.variables, model.sources.train)
        latents = seen.latents[model.system.top]
        radius = float(np.linalg.norm(latents, axis=1).max())
        healthy = latents[seen.target == 0]
        walks.append(walk(model.system, model.variables, healthy.mean(0), radius, seed))
        if seed == 0:
            shown = walk_pictures(model, walks[0], latents, seen.target)
    shares = np.asarray([w.septal_share() for w in walks])
    inside = [_inside(m, w) for m, w in zip(models, walks)]
    claims = (
        at_least("(iii) walks along which p(HCM) never falls, share",
                 np.mean([w.monotone for w in walks]), 1),
        above("(iii) p(HCM) at their ends, least", min(w.probability[-1] for w in walks), 0.95),
        at_least("(iii) Dice of their ends with their starts, least",
                 min(w.kept for w in walks), 0.7),
        at_least("(iii) added volume in the septal half", np.nanmean(shares[:, 0]), 0.6),
        above("(iii) the same, less random directions",
              np.nanmean(shares[:, 0] - shares[:, 1]), 0),
    )  # fmt: skip
    rows = [
        f"| {seed} | {w.probability[0]:.3f} | {w.probability[-1]:.3f} | {w.kept:.3f} | "
        f"{share[0]:.2f} | {share[1]:.2f} | {within:.2f} | "
        f"{np.linalg.norm(w.latents[-1] - w.latents[0]):.2f} |"
        for seed, (w, share, within) in enumerate(zip(walks, shares, inside))
    ]
    table = "\n".join([
        "From the mean healthy subject along the gradient of the HCM score:",
        "",
        "| seed | p(HCM) at the start | at the end | Dice of end and start | added volume in the "
        "septal half | random directions | thickening inside the true region | length |",
        "|" + "---|" * 8,
        *rows,
    ])  # fmt: skip
    return claims, f"{table}{stalled_note(shares[:, 0], inside)}", shown


def stalled_note(septal, inside) -> str:
    """A sentence on seeds whose decoded wall encloses nothing, with the mean of the others.

    Args:
        septal: share of the added volume in the septal half, of each seed.
        inside: share of the thickening in the true region; NaN where there is no thickness.
    """
    stalled = np.isnan(inside)
    if not stalled.any() or stalled.all():
        return ""
    seeds = ", ".join(map(str, np.flatnonzero(stalled)))
    every, others = np.nanmean(septal), np.nanmean(np.asarray(septal)[~stalled])
    return (
        f"\n\nThe {every:.3f} of claim (iii), added volume in the septal half, includes seed "
        f"{seeds}, whose decoder stalled at ventricles without a cavity (no thickness): there an "
        f"added voxel says little of a wall. Without it the mean is {others:.2f}."
    )


def _inside(model: Model, found: Walk) -> float:
    """Part of the walk's thickening where the training subjects' disease is, see `Thickening`."""
    subjects = LeftVentricles(len(model.sources.train), model.system.net.shape, model.seed)
    ends = {0: found.shapes[0], 1: found.shapes[-1]}
    try:
        return thickening(ends, subjects, model.sources.info.spacing).inside()
    except ValueError:  # a decoded wall with a hole encloses nothing
        return float("nan")


def walk_pictures(model: Model, found: Walk, latents, target) -> dict[str, np.ndarray]:
    """Decoded shapes along the walk, their walls, and the walk among the subjects."""
    spacing = model.sources.info.spacing
    both = np.concatenate([latents, found.latents[list(found.places)]])
    embedded = laplacian_eigenmap(both)
    places = embedded.coordinates[len(latents) :]
    ends = [found.shapes[k][..., 0] for k in (0, -1)]
    shown = {
        "walk": pictures.shape_rows(found.shapes),
        "eigenmap": pictures.scatter(
            embedded.coordinates[: len(latents)],
            target,
            ("healthy", "HCM"),
            places,
            ("Laplacian eigenmap 1", "2"),
        ),
    }
    try:
        shown["thickness"] = pictures.thickness_views(ends, spacing)
        maps = [thickness_map(wall_surface(shape, spacing)) for shape in ends]
    except ValueError:  # a decoded wall with a hole encloses nothing
        return shown
    shown["difference"] = pictures.bulls_eyes({"end of the walk less its start": maps[1] - maps[0]})
    return shown
