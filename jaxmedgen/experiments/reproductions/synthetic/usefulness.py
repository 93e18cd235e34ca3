"""Claims 1 to 4: augmentation, reduction, domain shift, pathology."""

import numpy as np

from jaxmedgen.experiments.reproductions.record import Claim, Options, Part
from jaxmedgen.experiments.reproductions.synthetic.parts import (
    Trained,
    at_least,
    difference,
    run,
    scores,
    setting,
    table,
    training_samples,
)
from jaxmedgen.experiments.synthetic.experiment_readings import EQUIVALENT
from jaxmedgen.experiments.synthetic.interpretation import Findings, readings
from jaxmedgen.experiments.synthetic.setting import REAL
from jaxmedgen.metrics.statistics import mean_interval, seed_mean

DISEASES = ("NOR", "DCM", "HCM", "RV")


def augmentation(options: Options, generator: Trained | None = None) -> Part:
    """Eight real subjects of vendor A; vendor C is never seen, in no style either."""
    made = setting(options, "augmentation", generator, experiment__ratios="(5,)")
    mixed = "real+synthetic 1:5"
    left_out = (f"{mixed}, own style", f"{mixed}, half real")
    results = run(
        options, made, "augmentation", lambda n: n not in left_out, "8 of 40 hearts, vendor A"
    )
    budget = made.config.experiment.labelled
    over = difference(results, mixed, REAL, budget, "C")
    bare = difference(results, f"{mixed}, no augmentation", "real, no augmentation", budget, "C")
    claims = [
        at_least("1. real + synthetic (random styles) over augmentation, unseen vendor", over, 0.01)
    ]
    claims += [
        at_least(
            f"1. the same over the control {control}, unseen vendor",
            difference(results, mixed, control, budget, "C"),
            0.0,
        )
        for control in ("real+warped", "real+duplicated")
    ]
    note = (
        "Without conventional augmentation the same synthetic images gain "
        f"{bare.interval.mean:+.3f} on the unseen vendor, beside it {over.interval.mean:+.3f}."
    )
    read = readings(
        Findings(
            gain_source=difference(results, mixed, REAL, budget, "A").interval.mean,
            gain_unseen=over.interval.mean,
            gain_without_augmentation=bare.interval.mean,
        )
    )
    return Part(
        results.total_seconds,
        tuple(claims),
        table(results, ("A", "C"), REAL),
        _pictures("augmentation", training_samples(results)),
        (note, *(f"Augmentation reads: {text}." for text in read)),
    )


def reduction(options: Options, generator: Trained | None = None) -> Part:
    """All 40 real subjects of vendors A and B, a fifth of them, and none."""
    made = setting(options, "reduction", generator, experiment__fractions="(1.0, 0.2)")
    results = run(
        options, made, "reduction", lambda n: "200 %" not in n, "40 hearts, vendors A and B"
    )
    size = max(results.budgets)
    few = min(results.budgets)
    full = float(np.nanmean(scores(results, REAL, size)))

    def retention(arm: str, budget: int) -> float:
        return float(np.nanmean(scores(results, arm, budget))) / full

    filled = retention("real+synthetic, full generator", few)
    honest = retention("real+synthetic", few)
    alone, none = retention(REAL, few), retention("synthetic only", size)
    to_full = seed_mean(scores(results, "real+synthetic, full generator", few)) - seed_mean(
        scores(results, REAL, size)
    )
    ends = mean_interval(to_full)
    equivalent = -EQUIVALENT <= ends.low and ends.high <= EQUIVALENT
    claims = (
        Claim("2. retention, 20 % real + synthetic", ">= 0.97", filled, None, filled >= 0.97),
        Claim(
            "2. retention lost with 20 % real alone, against with synthetic",
            ">= 0.03",
            filled - alone,
            None,
            filled - alone >= 0.03,
        ),
        Claim("2. retention, 0 % real, synthetic only", ">= 0.90", none, None, none >= 0.9),
        Claim(
            "2. Dice of 20 % real + synthetic less that of all real (equivalence)",
            f"95 % interval within {EQUIVALENT}",
            ends.mean,
            (ends.low, ends.high),
            bool(equivalent),
        ),
    )
    note = (
        f"Retention with label maps of the same 8 subjects only (honest): {honest:.3f}; with 20 % "
        f"real alone: {alone:.3f}. The full variant takes label maps (and what a generator "
        "learns) from all 40 subjects: a leak."
    )
    read = readings(Findings(retention_honest=honest, retention_full=filled))
    notes = (note, *(f"Reduction reads: {text}." for text in read))
    return Part(results.total_seconds, claims, table(results, ("A", "B"), REAL), notes=notes)


def domain_shift(options: Options, generator: Trained | None = None) -> Part:
    """Vendor A in training; synthetic images in the style of vendor C, its own, random ones."""
    made = setting(options, "domain_shift", generator, experiment__ratios="(5,)")
    left_out = ("real+synthetic, vendor B", "real+synthetic, all vendors")
    results = run(
        options, made, "domain_shift", lambda n: n not in left_out, "8 of 40 hearts, vendor A"
    )
    budget = made.config.experiment.labelled
    real = {v: float(np.nanmean(scores(results, REAL, budget, v))) for v in "ABCD"}
    gap = real["A"] - real["C"]
    styled = difference(results, "real+synthetic, vendor C", REAL, budget, "C").interval
    recovered = styled.mean / gap if gap > 0 else float("nan")
    interval = (styled.low / gap, styled.high / gap) if gap > 0 else None
    claims = (
        Claim("3. Dice on vendor A less that on vendor C, trained on A", ">= 0.10", gap, None,
              gap >= 0.1),
        Claim("3. part of the gap recovered by synthetic images in C's style", ">= 0.50",
              recovered, interval, bool(recovered >= 0.5)),
    )  # fmt: skip
    return Part(
        results.total_seconds,
        claims,
        table(results, tuple("ABCD"), REAL),
        _pictures("domain_shift", training_samples(results)),
    )


def pathology(options: Options) -> Part:
    """Mostly healthy subjects in training, four diseases in the test."""
    made = setting(options, "pathology", experiment__ratios="(5,)")
    results = run(
        options, made, "pathology", lambda n: True, "8 of 40 hearts, vendor A, mostly healthy"
    )
    budget = made.config.experiment.labelled

    def worst(arm: str) -> np.ndarray:
        means = [np.nanmean(scores(results, arm, budget, d)) for d in DISEASES[1:]]
        return scores(results, arm, budget, DISEASES[1 + int(np.argmin(means))])

    disease = min(DISEASES[1:], key=lambda d: float(np.nanmean(scores(results, REAL, budget, d))))
    gain = float(np.nanmean(worst("real+pathology")) - np.nanmean(worst(REAL)))
    same = difference(results, "real+pathology", REAL, budget, disease).interval
    healthy = difference(results, "real+pathology", REAL, budget, "NOR")
    claims = (
        Claim(
            f"4. worst disease's Dice gained by pathology synthesis (interval: {disease})",
            ">= 0.02",
            gain,
            (same.low, same.high),
            bool(gain >= 0.02),
        ),
        at_least("4. healthy hearts' Dice gained by pathology synthesis", healthy, -0.01),
    )
    return Part(
        results.total_seconds,
        claims,
        table(results, DISEASES, REAL),
        _pictures("pathology", training_samples(results)),
    )


def _pictures(name: str, picture: np.ndarray | None) -> dict[str, np.ndarray]:
    return {} if picture is None else {name: picture}
