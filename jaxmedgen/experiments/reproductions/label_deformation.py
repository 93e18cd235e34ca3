"""``bin/reproduce label_deformation``: new hearts from the latent space of label maps.

Sheet of label deformation, "how to show it works here": slice equalisation, plausibility,
correlated sampling, disease shifts, hearts between hearts, and the sweep of beta, on phantom stacks
of 120 training and 40 test subjects. Overrides (``--config.KEY=VALUE``) go to the trainings.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from jaxmedgen.experiments.reproductions.hearts import deformation, pathology, slices, subjects
from jaxmedgen.experiments.reproductions.hearts.deformation import Outcome
from jaxmedgen.experiments.reproductions.hearts.measured import Measured
from jaxmedgen.experiments.reproductions.hearts.models import BATCH
from jaxmedgen.experiments.reproductions.hearts.pathology import Coherence, Shift
from jaxmedgen.experiments.reproductions.hearts.subjects import Summary
from jaxmedgen.experiments.reproductions.record import Claim, Options, Reproduction

SEEDS = 3
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
)
FAILED = {
    "(ii) plausible slices, VAE less elastic": "(ii) lies a point below its threshold: 88 % of the "
    "slices survive elastic deformations of that size, once both are cleaned.",
    "(iii) the same, worst entry": "(iii) latents are drawn from normal distributions whose tails "
    "beyond the training subjects' range are clipped, which narrows the widest entries; the mean "
    "over entries holds.",
    "(vi) Spearman of beta and roughness": "(vi) roughness is measured in deviations of each "
    "latent dimension: with a high beta fewer nats are left, so that what the slices of a subject "
    "have in common shrinks beside the noise of the means, and paths get rougher in these units, "
    "although what they decode to gets smoother (least Dice along paths).",
}
"""Why claims failed with the settings of this file, by the start of their names."""


def reproduce(options: Options) -> Reproduction:
    """Trains what is not trained yet, measures what was not measured, checks the claims."""
    with options.progress:
        return _reproduce(options)


def _reproduce(options: Options) -> Reproduction:
    models = [Measured(options, "vae", seed, STEPS) for seed in range(SEEDS)]
    arms = {"vae": models[0]}
    for name, arm in SWEEP.items():
        arms[name] = Measured(options, arm, 0, SWEEP_STEPS, "sweep-")
    arms |= {arm: Measured(options, arm, 0, OTHER_STEPS) for arm in OTHERS}
    arms["pca"] = Measured(options, "pca", 0)
    arms["volume"] = Measured(options, "volume", 0, VOLUME_STEPS)
    lines = {}
    for name, model in arms.items():
        lines[name] = Summary(**model.measure(subjects.summarise))
        if model not in models:
            model.close()
    cut, cut_table = equalisation(models)
    moved, moved_table, moved_pictures = plausibility(models)
    sick, sick_table, sick_pictures = disease(models)
    between = np.mean([m.measure(subjects.between_share, seed=s) for s, m in enumerate(models)])
    misses = np.mean([m.measure(subjects.target_error) for m in models])
    _, examples = models[0].measure_and_draw(pathology.examples)
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
        seconds=sum(m.seconds for m in (*models[1:], *arms.values())),
        claims=claims,
        published=PUBLISHED,
        table="\n\n".join((model_table(lines), cut_table, moved_table, sick_table)),
        pictures={**moved_pictures, **sick_pictures, **examples},
        notes=(*NOTES, *explained(claims, options)),
    )


def explained(claims: Sequence[Claim], options: Options) -> tuple[str, ...]:
    """A note on the claims that failed; none of other settings, where it was not looked why."""
    said = [
        text
        for start, text in FAILED.items()
        if any(claim.name.startswith(start) and not claim.holds for claim in claims)
    ]
    return (f"Where claims fail. {' '.join(said)}",) if said and not options.overrides else ()


def equalisation(models: Sequence[Measured]):
    """Claim (i)."""
    ours = [model.measure(slices.dice_of_model) for model in models]
    nearest, distance = (
        models[0].measure(slices.dice_between, method=method) for method in ("nearest", "distance")
    )
    full = np.mean([model.measure(slices.share_equalised) for model in models])
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


def plausibility(models: Sequence[Measured]):
    """Claim (ii)."""
    rows, floors, found, pictures = [], [], {"elastic": [], "VAE": []}, {}
    for seed, model in enumerate(models):
        both, drawn = model.measure_and_draw(deformation.compare, seed=seed)
        pictures = pictures or drawn
        for name, key, place in (
            ("elastic", "elastic", "-"),
            ("VAE", "latent", f"{both['t']:.2f}"),
        ):
            result = Outcome(**both[key])
            found[name].append(result)
            rows.append(
                f"| {seed} | {name} | {place} | {result.distance:.2f} | {result.topology_raw:.1f} "
                f"| {result.topology:.1f} | {result.plausible:.1f} | {result.in_range:.1f} "
                f"| {result.folded:.1f} | {result.discrepancy:.3f} | {result.to_train:.2f} "
                f"| {result.to_held_out:.2f} |"
            )
        floors.append(both["held_out_to_train"])
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
        f"{deformation.SUBJECTS} training subjects deformed, contours moved equally far. The last "
        "columns are mean distances of clinical indices to the nearest training and the nearest "
        "held-out subject, in deviations; held-out subjects are "
        f"{float(np.mean(floors)):.2f} from their nearest training subject:\n\n"
        "| seed | way | t | contours moved, mm | topology before cleaning, % | topology, % "
        "| plausible, % | stacks in range, % | fields that fold, % | MMD to held-out "
        "| to training | to held-out |\n"
    )
    return claims, header + "|" + "---|" * 12 + "\n" + "\n".join(rows), pictures


def disease(models: Sequence[Measured]):
    """Claims (iii) and (iv)."""
    found = [
        Coherence(**model.measure(pathology.coherence, seed=seed))
        for seed, model in enumerate(models)
    ]
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
        f"| {c.deviation_error:.3f} | {c.largest_error:.3f} | {c.raw_mean_error:.2f} "
        f"| {c.real_jumps:.0f} / {c.jumps['moments']:.0f} / {c.jumps['raw']:.0f} "
        f"/ {c.jumps['none']:.0f} |"
        for seed, c in enumerate(found)
    ]
    table = (
        "Pseudo-subjects of three diseases, Dice of consecutive slices:\n\n| seed | training "
        "subjects | correlated, right moments | correlated raw values | uncorrelated | plausible "
        "slices, % | mean off, SD | SD off | worst entry | mean off, raw values "
        "| change of area between slices, mm², training / the three ways |\n"
        + "|" + "---|" * 11 + "\n" + "\n".join(rows)
    )  # fmt: skip
    lines, pictures = [], {}
    for name, target in pathology.DISEASES.items():
        both = [
            model.measure_and_draw(pathology.shift, disease=name, seed=seed)
            for seed, model in enumerate(models)
        ]
        shifts = [Shift(**value) for value, _ in both]
        pictures |= both[0][1]
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
        chance = np.mean([s.probability for s in shifts], axis=0)[::2]  # t = 0, 0.2, ... 1
        rises = float(np.mean([s.probability_spearman for s in shifts]))
        lines.append(
            f"| {name} | "
            + " | ".join(f"{change[k]:+.1f} ({real[k]:+.1f})" for k in pathology.SHIFTED)
            + f" | {spearman:.3f} | {', '.join(f'{p:.2f}' for p in chance)} | {rises:.3f} |"
        )
    table += (
        "\n\nFrom healthy to diseased: change of indices in deviations of healthy subjects (in "
        "brackets the difference of the training subjects' own), Spearman's rho of the index that "
        "should rise, probability of the disease by a classifier of indices on the way, and its "
        "own rho:\n\n| disease | " + " | ".join(pathology.SHIFTED)
        + " | rho | probability at t = 0, 0.2, 0.4, 0.6, 0.8, 1 | its rho |\n|" + "---|" * 7 + "\n"
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
        f"Models, one seed:\n\n| model | reconstruction Dice | of {' / '.join(slices.NAMES)} "
        "| held-out slices | KL, nats | active units | roughness | least Dice along paths "
        "| Dice of consecutive slices | their change of area, mm² | plausible, % | training, s |\n"
        + "|" + "---|" * 12
    )  # fmt: skip
    rows = [
        f"| {arm} | {x.dice:.3f} | {' / '.join(f'{x.class_dice[n]:.3f}' for n in slices.NAMES)} "
        f"| {x.held_out:.3f} | {x.kl:.1f} | {x.units} | {x.roughness:.1f} | {x.path:.3f} "
        f"| {x.neighbours:.3f} | {x.area_jumps:.0f} | {100 * x.plausible:.1f} | {x.seconds:.0f} |"
        for arm, x in lines.items()
    ]
    return "\n".join([header, *rows])


def _at_least(name: str, measured: float, least: float | int) -> Claim:
    return Claim(name, f">= {least:g}", measured, None, bool(measured >= least - 1e-9))


def _at_most(name: str, measured: float, most: float | int) -> Claim:
    return Claim(name, f"<= {most:g}", measured, None, bool(measured <= most + 1e-9))
