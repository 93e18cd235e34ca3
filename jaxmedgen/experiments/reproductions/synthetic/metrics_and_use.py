"""Claim 6: does FID order generators as their use does, and where does it mislead?"""

import time

import matplotlib.figure
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.sources import in_memory, relabel
from jaxmedgen.experiments.reproductions.record import Claim, Options, Part
from jaxmedgen.experiments.reproductions.synthetic.parts import (
    difference,
    run,
    scores,
    setting,
    table,
)
from jaxmedgen.experiments.synthetic.agreement import (
    CHECKPOINTS,
    FAULTS,
    TRAINED,
    images_of,
    rank_correlation,
)
from jaxmedgen.experiments.synthetic.extractors import trained_classifier
from jaxmedgen.experiments.synthetic.interpretation import Findings, readings
from jaxmedgen.experiments.synthetic.realism import ImageSet, copying, set_measures
from jaxmedgen.experiments.synthetic.realism_run import ceilings, image_set
from jaxmedgen.experiments.synthetic.setting import REAL
from jaxmedgen.report.realism import Measure, sample_rows

IMAGES = 640
"""Real images of the reference, and images a set; FID of 128 features wants 1280."""

GENERATORS = ("sound", *FAULTS, *TRAINED)

_SHOWN = ("fid", "fid_infinity", "kid", "precision", "recall", "density", "coverage",
          "inception_score", "pairwise_ms_ssim")  # fmt: skip


def agreement(options: Options) -> Part:
    """Generators of known quality: realism of their images, Dice of segmenters of them."""
    made = setting(options, "agreement")
    results = run(options, made, "agreement", lambda n: True, "40 hearts, vendors A and B")
    started = time.perf_counter()
    measures, pictures = _realism(made, options)
    size = max(results.budgets)
    dice = {name: float(np.nanmean(scores(results, name, size))) for name in GENERATORS}
    value = {(m.images, m.metric): m.value for m in measures}

    fid = {name: value[name, "fid"] for name in GENERATORS}
    trained = rank_correlation(fid, dice, TRAINED)
    sure = value["collapsed", "inception_score"] / value["sound", "inception_score"]
    floor = value["held-out real", "fid"]
    read = {
        name: readings(
            Findings(
                fid_ratio=value[name, "fid"] / floor,
                recall=value[name, "recall"],
                gain_source=difference(results, name, REAL, size).interval.mean,
            )
        )
        for name in GENERATORS
    }
    lost = difference(results, "collapsed", "sound", size).interval
    claims = (
        Claim(
            "6. rank correlation of low FID with downstream Dice, 5 checkpoints of a generator",
            "> 0",
            trained,
            None,
            trained > 0,
        ),
        Claim(
            "6. counter-example: inception score of a sharp generator of one image a vendor, in "
            "parts of the sound one's",
            ">= 0.9",
            sure,
            None,
            sure >= 0.9,
        ),
        Claim(
            "6. counter-example: its recall",
            "< 0.1",
            value["collapsed", "recall"],
            None,
            value["collapsed", "recall"] < 0.1,
        ),
        Claim(
            "6. counter-example: its Dice downstream less that of the sound one",
            "< 0",
            lost.mean,
            (lost.low, lost.high),
            bool(lost.high < 0),
        ),
    )
    known = ("sound", *FAULTS)
    notes = (
        "The sheet asks for the rank correlation over checkpoints. A first run took the sound "
        "generator and the four faulty ones in their place, where it was "
        f"{rank_correlation(fid, dice, known):.2f} (here): the permuted generator's images are the "
        "sound one's, so that FID cannot tell them apart, and noise that ruins FID costs a "
        "segmenter little. Without the permuted one it is "
        f"{rank_correlation(fid, dice, [n for n in known if n != 'permuted']):.2f}.",
        "The collapsed generator has one image a vendor, moved by up to half a voxel and with "
        "noise of a hundredth of its range: as sharp as the sound one's and as surely named. "
        "Recall asks for real images within balls around generated ones that reach to the fifth "
        "neighbour; they are as small as that movement.",
        *(f"{name}: {text}." for name, texts in read.items() for text in texts),
    )
    return Part(
        results.total_seconds + time.perf_counter() - started,
        claims,
        table(results, ("A", "B"), REAL) + "\n\n" + _realism_table(measures),
        pictures | {"agreement": _scatter(value, dice)},
        notes,
    )


def _realism(made, options) -> tuple[tuple[Measure, ...], dict[str, np.ndarray]]:
    """Set measures of every generator, in features of a vendor classifier."""
    data, config = made.config.data, made.config
    vendors = tuple(data.train_vendors)
    shape, seed = tuple(data.shape), data.seed + 3
    real = in_memory(HeartSlices(IMAGES, shape, seed, 0, vendors))
    unseen = in_memory(HeartSlices(IMAGES, shape, seed, IMAGES, vendors))
    pattern = config.experiment.vendor_pattern
    groups = groups_of(real.info.case_names, pattern)
    merged = relabel(real, data.target_of, data.target_names)
    network = trained_classifier(merged, groups, options.workdir / "agreement" / "extractor")
    reference, floor = image_set(real, pattern), image_set(unseen, pattern)
    sets: dict[str, ImageSet] = {"held-out real": floor, **ceilings(floor, 1.0)}
    sets |= images_of(made, options.workdir / "agreement" / "part0", IMAGES)
    measures = set_measures(reference, sets, network, resamples=0)
    trained_on = image_set(in_memory(made.pool), pattern)
    copies, _ = copying(trained_on, floor, sets["sound"], network)
    rows = {name: s.images[:8, ..., 0] for name, s in {"real": reference, **sets}.items()}
    return (*measures, *copies), {"generators": sample_rows(rows)}


def _realism_table(measures: tuple[Measure, ...]) -> str:
    sets = list(dict.fromkeys(m.images for m in measures if m.metric == "fid"))
    value = {(m.images, m.metric): m.value for m in measures}
    lines = ["| images | " + " | ".join(_SHOWN) + " |", "|---|" + "---|" * len(_SHOWN)]
    for name in sets:
        cells = (f"{value[name, metric]:.4g}" for metric in _SHOWN)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    copies = [m for m in measures if m.metric.startswith("memorisation")]
    lines += ["", "; ".join(f"{m.metric}: {m.value:.3f}" for m in copies) + " (sound generator)."]
    return "\n".join(lines)


def _scatter(value, dice) -> np.ndarray:
    """Dice downstream against FID, a point a generator; checkpoints of one are joined."""
    figure = matplotlib.figure.Figure(figsize=(4.6, 3.2), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    largest = max(value[name, "fid"] for name in dice)
    for name, y in dice.items():
        x = value[name, "fid"]
        if name in TRAINED:
            continue
        axes.scatter(x, y, color="#0072B2", zorder=2)
        side, shift = ("right", -5) if x > largest / 30 else ("left", 5)
        up = 5 if y >= np.median(list(dice.values())) else -13
        axes.annotate(name, (x, y), (shift, up), textcoords="offset points", fontsize=9, ha=side)
    path = [(value[name, "fid"], dice[name]) for name in TRAINED]
    axes.plot(*zip(*path), "o-", color="#D55E00", lw=1, zorder=2)
    for k, (point, steps) in enumerate(zip(path, CHECKPOINTS)):
        # Above and away from the nearest neighbour: the last checkpoints lie close together.
        others = [x for x, _ in path if x != point[0]]
        nearest = min(others, key=lambda x: abs(np.log(x / point[0])), default=0.0)
        side, shift = ("left", 4) if nearest < point[0] else ("right", -4)
        words = {"xytext": (shift, 4), "textcoords": "offset points", "fontsize": 9, "ha": side}
        axes.annotate(f"{steps} steps" if k == 0 else str(steps), point, color="#D55E00", **words)
    axes.axvline(value["held-out real", "fid"], color="#888888", lw=1, ls="--", zorder=1)
    axes.set(xlabel="FID (dashed: held-out real images)", ylabel="Dice downstream", xscale="log")
    axes.margins(x=0.15, y=0.1)
    axes.grid(alpha=0.3)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
