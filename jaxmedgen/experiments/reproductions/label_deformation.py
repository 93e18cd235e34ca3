"""``bin/reproduce label_deformation``: new hearts from the latent space of label maps.

Sheet of label deformation, "how to show it works here": slice equalisation, plausibility,
correlated sampling, disease shifts, hearts between hearts, and the sweep of beta, on phantom stacks
of 120 training and 40 test subjects. Overrides (``--config.KEY=VALUE``) go to the trainings.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import spearmanr

from jaxmedgen.experiments.label_files import stack_row
from jaxmedgen.experiments.reproductions.hearts import deformation, pathology, slices, subjects
from jaxmedgen.experiments.reproductions.hearts.models import BATCH, Model, trained
from jaxmedgen.experiments.reproductions.record import Claim, Options, Reproduction
from jaxmedgen.ops.correlated_normal import draw_latents
from jaxmedgen.ops.latent_paths import interpolate_latents
from jaxmedgen.report.pictures import montage

SEEDS = 2
STEPS = 1000
SWEEP = {"beta1": "beta1", "beta5": "beta5", "beta15": "vae", "beta50": "beta50"}
"""Names in the table and arms, by rising beta."""
OTHERS = ("ae", "z32", "resnet", "capacity")
SWEEP_STEPS = 400
OTHER_STEPS = 250
VOLUME_STEPS = 60
DATASET = "phantom stacks, 64^2, 6 to 14 slices, 120 training and 40 test subjects"
PUBLISHED = {"lecture": "figures only: no numbers are given for any of these claims"}
NOTES = (
    f"Data: {DATASET}; networks of the cpu size (16-32-64-128 channels), one core. {STEPS} steps "
    f"of {BATCH} slices for the main model ({SEEDS} seeds), {SWEEP_STEPS} for the sweep of beta, "
    f"{OTHER_STEPS} for the other models in slices, {VOLUME_STEPS} of 4 stacks for the 3D model: "
    "their lines show what so short a training gives. Arms of the table have one seed.",
    "Plausible: topology of a heart, and areas and wall thickness within the 1st to 99th percentile"
    " of the training slices. Both ways of deforming are cleaned alike (largest piece, holes); the "
    "VAE moves each subject towards another until its contours have moved as far as elastic "
    "deformation moves them.",
    "Slice correlations are those of the healthy training subjects, in deviations; those of latent "
    "dimensions are of all slices of a disease, in deviations.",
    "Where claims fail. (ii) lies at its threshold: elastic deformations of the second seed happen "
    "to be milder. (iii) latents are drawn from normal distributions whose tails beyond the "
    "training subjects' range are clipped, which narrows the widest entries; the mean over "
    "entries holds. (vi) roughness is measured in deviations of each latent dimension: with a "
    "high beta fewer nats are left, so that what the slices of a subject have in common shrinks "
    "beside the noise of the means, and paths get rougher in these units, although what they "
    "decode to gets smoother (least Dice along paths).",
)


def reproduce(options: Options) -> Reproduction:
    """Trains what is not trained yet and checks the claims."""
    models = [trained(options, "vae", seed, STEPS) for seed in range(SEEDS)]
    lines = {"vae": subjects.summarise(models[0])}
    for name, arm in SWEEP.items():
        lines[name] = subjects.summarise(trained(options, arm, 0, SWEEP_STEPS, "sweep-"))
    for arm in OTHERS:
        lines[arm] = subjects.summarise(trained(options, arm, 0, OTHER_STEPS))
    lines["pca"] = subjects.summarise(trained(options, "pca", 0))
    lines["volume"] = subjects.summarise(trained(options, "volume", 0, VOLUME_STEPS))
    cut, cut_table = equalisation(models)
    moved, moved_table, moved_pictures = plausibility(models)
    sick, sick_table, sick_pictures = disease(models)
    between = _mean(lambda m, s: subjects.between_share(m, s), models)
    misses = _mean(lambda m, s: subjects.target_error(m), models)
    claims = (
        *cut,
        *moved,
        *sick,
        _at_least("(v) pairs whose volume at t = 1/2 lies between both, %", 100 * between, 90),
        _at_most(
            "(v) subjects sent to the 99th percentile of LV volume miss it by, SD", misses, 0.1
        ),
        *sweep(lines),
    )
    return Reproduction(
        system="label_deformation",
        seeds=SEEDS,
        seconds=sum(m.seconds for m in models) + sum(x.seconds for x in list(lines.values())[1:]),
        claims=claims,
        published=PUBLISHED,
        table="\n\n".join((model_table(lines), cut_table, moved_table, sick_table)),
        pictures={**moved_pictures, **sick_pictures, **paths(models[0])},
        notes=NOTES,
    )


def equalisation(models: Sequence[Model]):
    """Claim (i)."""
    ours = [slices.dice_of_model(model) for model in models]
    nearest, distance = (
        slices.dice_between(models[0].test, method) for method in ("nearest", "distance")
    )
    full = _mean(lambda m, s: slices.share_equalised(m), models)
    mean = float(np.mean(ours))
    claims = (
        _at_least("(i) Dice of held-out slices, VAE less nearest slice", mean - nearest, 0.03),
        _at_least("(i) Dice of held-out slices, VAE less SDF", mean - distance, -0.02),
        _at_least("(i) subjects with 32 slices, %", 100 * full, 100),
    )
    table = (
        "Every second slice left out, test subjects, Dice:\n\n| nearest slice | signed distances | "
        f"VAE, {len(ours)} seeds |\n|---|---|---|\n| {nearest:.3f} | {distance:.3f} "
        f"| {', '.join(f'{x:.3f}' for x in ours)} |"
    )
    return claims, table


def plausibility(models: Sequence[Model]):
    """Claim (ii)."""
    rows, found, pictures = [], {"elastic": [], "VAE": []}, {}
    for seed, model in enumerate(models):
        bent, folded = deformation.elastic(model, seed)
        outcome = deformation.judge(model, bent, folded)
        made, t = deformation.matched(model, seed, outcome.distance)
        for name, result, place in (
            ("elastic", outcome, "-"),
            ("VAE", deformation.judge(model, made), f"{t:.2f}"),
        ):
            found[name].append(result)
            rows.append(
                f"| {seed} | {name} | {place} | {result.distance:.2f} | {result.topology_raw:.1f} "
                f"| {result.topology:.1f} | {result.plausible:.1f} | {result.in_range:.1f} "
                f"| {result.folded:.1f} | {result.discrepancy:.3f} |"
            )
        if seed == 0:
            rows_ = [model.train[k].label for k in range(3)], bent[:3], made[:3]
            pictures["elastic_and_latent"] = montage(
                [stack_row(row[k], 6) for k in range(3) for row in rows_], columns=1
            )
    ours, elastic = (
        float(np.mean([r.plausible for r in found[name]])) for name in ("VAE", "elastic")
    )
    topology = float(np.mean([r.topology_raw for r in found["VAE"]]))
    gap = topology - float(np.mean([r.topology_raw for r in found["elastic"]]))
    claims = (
        _at_least("(ii) plausible slices of the VAE, %", ours, 95),
        _at_least("(ii) plausible slices, VAE less elastic d = 20 mm, points", ours - elastic, 10),
        _at_least("(ii) topology alone, before cleaning, VAE, %", topology, 95),
        _at_least("(ii) topology alone, before cleaning, VAE less elastic, points", gap, 10),
    )
    header = (
        f"{deformation.SUBJECTS} training subjects deformed, contours moved equally far:\n\n"
        "| seed | way | t | contours moved, mm | topology before cleaning, % | topology, % "
        "| plausible, % | stacks in range, % | fields that fold, % | MMD to held-out |\n"
    )
    return claims, header + "|" + "---|" * 10 + "\n" + "\n".join(rows), pictures


def disease(models: Sequence[Model]):
    """Claims (iii) and (iv)."""
    found = [pathology.coherence(model, seed) for seed, model in enumerate(models)]
    gap = float(np.mean([c.dice["moments"] - c.dice["none"] for c in found]))
    error = float(np.mean([max(c.mean_error, c.deviation_error) for c in found]))
    claims = [
        _at_least("(iii) Dice of consecutive slices, correlated less uncorrelated", gap, 0.1),
        _at_most("(iii) mean and deviation of latents off their targets, mean over entries",
                 error, 0.1),
        _at_most("(iii) the same, worst entry",
                 float(np.mean([c.largest_error for c in found])), 0.1),
    ]  # fmt: skip
    rows = [
        f"| {seed} | {c.real:.3f} | {c.dice['moments']:.3f} | {c.dice['raw']:.3f} "
        f"| {c.dice['none']:.3f} | {100 * c.plausible['moments']:.0f} / "
        f"{100 * c.plausible['raw']:.0f} / {100 * c.plausible['none']:.0f} | {c.mean_error:.3f} "
        f"| {c.deviation_error:.3f} | {c.largest_error:.3f} | {c.raw_mean_error:.2f} |"
        for seed, c in enumerate(found)
    ]
    table = (
        "Pseudo-subjects of three diseases, Dice of consecutive slices:\n\n| seed | training "
        "subjects | correlated, right moments | correlated raw values | uncorrelated | plausible "
        "slices, % | mean off, SD | SD off | worst entry | mean off, raw values |\n"
        + "|" + "---|" * 10 + "\n" + "\n".join(rows)
    )  # fmt: skip
    lines, pictures = [], {}
    for name, target in pathology.DISEASES.items():
        shifts = [pathology.shift(model, name, seed) for seed, model in enumerate(models)]
        spearman = float(np.mean([s.spearman for s in shifts]))
        change = {k: float(np.mean([s.change[k] for s in shifts])) for k in pathology.SHIFTED}
        off = max(abs(v) for k, v in change.items() if k != target)
        ratio = off / max(change[target], 1e-9)
        claims.append(_at_least(f"(iv) NOR to {name}: Spearman of {target} and t", spearman, 0.95))
        claims.append(
            _at_most(f"(iv) NOR to {name}: largest off-target over on-target change",
                     ratio if change[target] > 0 else float("inf"), 0.5)
        )  # fmt: skip
        real = shifts[0].real_change
        chance = np.mean([s.probability for s in shifts], axis=0)
        lines.append(
            f"| {name} | "
            + " | ".join(f"{change[k]:+.1f} ({real[k]:+.1f})" for k in pathology.SHIFTED)
            + f" | {spearman:.3f} | {chance[0]:.2f}, {chance[1]:.2f} |"
        )
        steps = shifts[0].labels[:: (pathology.STEPS - 1) // 5]
        pictures[f"path_{name}"] = montage([stack_row(x) for x in steps], columns=1)
    table += (
        "\n\nFrom healthy to diseased: change of indices in deviations of healthy subjects (in "
        "brackets the difference of the training subjects' own), Spearman's rho of the index that "
        "should rise, probability of the disease by a classifier at both ends:\n\n| disease | "
        + " | ".join(pathology.SHIFTED) + " | rho | probability |\n|" + "---|" * 6 + "\n"
        + "\n".join(lines)
    )  # fmt: skip
    return tuple(claims), table, pictures


def sweep(lines) -> tuple[Claim, ...]:
    """Claim (vi)."""
    ranks = np.arange(len(SWEEP))
    rho = [
        float(spearmanr(ranks, [getattr(lines[name], key) for name in SWEEP]).statistic)
        for key in ("dice", "path", "roughness")
    ]
    return (
        _at_most("(vi) Spearman of beta and reconstruction Dice", rho[0], -0.8),
        _at_least(
            "(vi) Spearman of beta and the least Dice along interpolation paths", rho[1], 0.8
        ),
        _at_most("(vi) Spearman of beta and roughness of latent paths", rho[2], -0.8),
    )


def model_table(lines) -> str:
    """Markdown: a line a model."""
    header = (
        "Models, one seed:\n\n| model | reconstruction Dice | held-out slices | KL, nats | active "
        "units | roughness | least Dice along paths | Dice of consecutive slices | plausible, % "
        "| training, s |\n" + "|" + "---|" * 10
    )
    rows = [
        f"| {arm} | {x.dice:.3f} | {x.held_out:.3f} | {x.kl:.1f} | {x.units} | {x.roughness:.1f} "
        f"| {x.path:.3f} | {x.neighbours:.3f} | {100 * x.plausible:.1f} | {x.seconds:.0f} |"
        for arm, x in lines.items()
    ]
    return "\n".join([header, *rows])


def paths(model: Model) -> dict[str, np.ndarray]:
    """Pictures: equalised subjects, hearts between two, correlated and uncorrelated draws."""
    population, space = model.population, model.space
    a, b = population.members("NOR")[0], population.members("DCM")[0]
    way = [
        interpolate_latents(population.latents[a], population.latents[b], t)
        for t in np.linspace(0, 1, 6)
    ]
    statistics = pathology.disease_statistics(model, "HCM")
    rng = np.random.default_rng(0)
    drawn = [draw_latents(rng, statistics, 1, kind)[0] for kind in ("moments", "raw", "none")]
    equalised = [row for k in range(3) for row in (model.train[k].label, space.stack(
        population.latents[k]))]  # fmt: skip
    return {
        "equalised": montage([stack_row(label, 12) for label in equalised], columns=1),
        "between": montage([stack_row(space.stack(z)) for z in way], columns=1),
        "correlation": montage([stack_row(space.stack(z), 12) for z in drawn], columns=1),
    }


def _mean(measure: Callable[[Model, int], float], models: Sequence[Model]) -> float:
    return float(np.mean([measure(model, seed) for seed, model in enumerate(models)]))


def _at_least(name: str, measured: float, least: float | int) -> Claim:
    return Claim(name, f">= {least:g}", measured, None, bool(measured >= least - 1e-9))


def _at_most(name: str, measured: float, most: float | int) -> Claim:
    return Claim(name, f"<= {most:g}", measured, None, bool(measured <= most + 1e-9))
