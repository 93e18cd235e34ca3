"""``bin/reproduce hcvae``: fetal skulls from one, two or three ultrasound planes.

Phantoms of 200 training and 48 test fetuses at 32^3 and three seeds, in the layout of the published
tables. With ``--data`` (a folder as `configs/hcvae.py` describes it) three folds by fetus take the
place of seeds, at full size where there is an accelerator. Overrides (``--config.KEY=VALUE``) go to
the trainings.
"""

from collections.abc import Sequence

import numpy as np

from jaxmedgen.experiments.reconstruction.scoring import EVERY_SET, NESTED
from jaxmedgen.experiments.reconstruction.tables import (
    mean_deviation,
    published_layout,
    uncertainty_table,
    view_names,
)
from jaxmedgen.experiments.reproductions.record import Claim, Options, Reproduction
from jaxmedgen.experiments.reproductions.skulls import pictures
from jaxmedgen.experiments.reproductions.skulls.models import Model, model
from jaxmedgen.metrics.statistics import Interval, mean_interval, paired_difference, seed_mean

TAKES = ("data",)
SEEDS = 3
STEPS = 1000
MAIN = {"hcvae": "arm=hcvae", "cvae": "arm=cvae", "cvae-dropout": "arm=cvae-dropout"}
"""Names in tables and arguments of the configuration."""
RIVALS = {
    **{f"cvae {views}": f"arm=cvae,views={views}" for views in ("axial+sagittal", "axial")},
    "tl-net": "arm=tl-net",
    **{f"tl-net {views}": f"arm=tl-net,views={views}" for views in ("axial+sagittal", "axial")},
    "gan": "arm=gan",
    **{f"gan {views}": f"arm=gan,views={views}" for views in ("axial+sagittal", "axial")},
    "hcvae any views": "arm=hcvae,dropout=any",
    "cvae-dropout any views": "arm=cvae-dropout,dropout=any",
}
"""What the open questions (vi) and (vii) compare with: all seeds too."""
VARIANTS = {
    "hcvae-reversed": "arm=hcvae-reversed",
    "hcvae-no-dropout": "arm=hcvae-no-dropout",
    "hcvae-deep": "arm=hcvae-deep",
    "cvae-learned": "arm=cvae-learned",
    "pca": "arm=pca",
    **{f"pca {views}": f"arm=pca,views={views}" for views in ("axial+sagittal", "axial")},
    "mean": "arm=mean",
}
"""One seed; names with views are models that were trained with these alone."""
THREE, _, AXIAL = NESTED
PUBLISHED = {
    "DC / HD mm / RVD of 72 fetuses (Cerrolaza 2019)": {
        "3 views": "CVAE 0.91 / 4.33 / 0.03, HCVAE 0.91 / 4.12 / 0.03, TL-Net 0.89 / 4.79 / 0.09, "
        "GAN 0.89 / 5.16 / 0.03",
        "axial+sagittal": "CVAE 0.86 / 5.43 / 0.03, HCVAE 0.89 / 4.81 / 0.03, "
        "TL-Net 0.89 / 5.32 / 0.09, GAN 0.86 / 5.93 / 0.05",
        "axial": "CVAE 0.83 / 6.23 / 0.09, HCVAE 0.86 / 5.04 / 0.04, TL-Net 0.85 / 7.04 / 0.17, "
        "GAN 0.83 / 8.04 / 0.17",
    }
}
NOTES = (
    "DC and HD are those of the largest component at 0.5, in all models alike; an empty prediction "
    "is as far as the field of view's diagonal, and has no diameters. Mean ± SD over test "
    "cases, those of all seeds (or folds) together. A model without views in its name is given "
    "zeroed images for missing views, unless it has view dropout (hcvae, cvae-dropout and their "
    "variants), where a learned vector stands for them.",
    "Not gates of the experiment but its open questions: whether TL-Net and the GAN are worse from "
    "one view, and whether the hierarchy does more than view dropout or a model trained for the "
    "views at hand.",
    "Differences are paired by test case after averaging over seeds, with 95 % bootstrap intervals "
    "over cases.",
)
PHANTOM_NOTES = (
    "Gate (i) asks for 0.10 of DC between HCVAE and the zero-filled CVAE from the axial plane "
    "alone, after a pilot at 16^3 in which that CVAE fell to 0.60. At 32^3 it does not fall so "
    "far: 0.83 from one plane, which leaves no room for the gap.",
    "All seeds (not folds) have the same training and test heads, by design: a seed changes the "
    "networks' weights, batches and noise, and intervals are over heads.",
)


def reproduce(options: Options) -> Reproduction:
    """Trains what is not trained yet and checks the claims."""
    models = {
        name: model(options, name, argument, SEEDS, STEPS, samples=name in ("hcvae", "cvae"))
        for name, argument in (MAIN | RIVALS).items()
    }
    models |= {n: model(options, n, argument, 1, STEPS) for n, argument in VARIANTS.items()}
    latent, explained = pictures.first_level(models["hcvae"])
    drawn = {name: models[name] for name in ("hcvae", "cvae")}
    tables = (
        published_layout(
            {n: {v: m.pooled(v) for v in NESTED if m.pooled(v)} for n, m in models.items()}, NESTED
        ),
        any_combination(models),
        "Uncertainty, 50 samples:\n\n"
        + uncertainty_table({n: {v: m.uncertainty(v) for v in NESTED} for n, m in drawn.items()}),
        levels(models),
        "Cephalic index (BPD / OFD) from the first level's posterior mean, cross-validated "
        f"R^2: {explained:.2f}.",
    )
    runs = [run for m in models.values() for run in m.runs]
    return Reproduction(
        system="hcvae",
        seeds=len(models["hcvae"].runs),
        seconds=sum(run.seconds for run in runs),
        claims=(*gates(models, 0.02 if options.data else 0.05), *questions(models)),
        published=PUBLISHED,
        table="\n\n".join(tables),
        pictures={
            "surfaces": pictures.surfaces((models["hcvae"], models["cvae"])),
            "uncertainty": pictures.uncertainty(models["hcvae"]),
            "latent": latent,
        },
        notes=NOTES if options.data else (*NOTES, *PHANTOM_NOTES),
    )


def gates(models: dict[str, Model], margin: float) -> tuple[Claim, ...]:
    """Claims (i) to (v)."""
    ours, theirs = models["hcvae"], models["cvae"]
    total = [np.mean([u.total for u in ours.uncertainty(views)]) for views in NESTED]
    rho = float(np.nanmean([u.correlation for views in NESTED for u in ours.uncertainty(views)]))
    growth = float(min(np.diff(total)))
    return (
        _at_least("(i) DC, axial alone: HCVAE less zero-filled CVAE",
                  _difference(ours, theirs, AXIAL, "dice"), 0.10),
        _at_most("(i) HD mm, axial alone: HCVAE less zero-filled CVAE",
                 _difference(ours, theirs, AXIAL, "hd"), 0.0),
        _at_most("(ii) DC lost from three views to one, HCVAE", _lost(ours), 0.03),
        _at_least("(ii) DC lost from three views to one, zero-filled CVAE", _lost(theirs), 0.08),
        _at_least("(iii) DC, three views: HCVAE less CVAE",
                  _difference(ours, theirs, THREE, "dice"), -margin),
        Claim("(iv) total uncertainty of HCVAE, least growth from 3 to 2 to 1 views", "> 0",
              growth, None, growth > 0),
        Claim("(v) Spearman of HCVAE's uncertainty and error on their support", "> 0.2",
              rho, None, rho > 0.2),
    )  # fmt: skip


def questions(models: dict[str, Model]) -> tuple[Claim, ...]:
    """(vi) and (vii): reported, no gates."""
    ours = models["hcvae"]
    claims = [
        _sign(f"(vi, no gate) HD mm, axial alone: {name} less HCVAE",
              _difference(models[name], ours, AXIAL, "hd"))
        for name in ("tl-net", "tl-net axial", "gan", "gan axial")
    ]  # fmt: skip
    others = [("cvae-dropout", THREE), ("cvae-dropout", NESTED[1]), ("cvae-dropout", AXIAL)]
    others += [("cvae axial+sagittal", NESTED[1]), ("cvae axial", AXIAL)]
    claims += [
        _sign(f"(vii, no gate) DC, {view_names(views)}: HCVAE less {name}",
              _difference(ours, models[name], views, "dice"))
        for name, views in others
    ]  # fmt: skip
    claims += [
        _sign(f"(vii, no gate) DC, {view_names(views)}: HCVAE less cvae-dropout, both any views",
              _difference(models["hcvae any views"], models["cvae-dropout any views"],
                          views, "dice"))
        for views in (*NESTED, (1,), (2,))
    ]  # fmt: skip
    return tuple(claims)


def any_combination(models: dict[str, Model]) -> str:
    """Markdown: Dice of the models that handle missing views, from every set of views."""
    names = [n for n in ("hcvae", "hcvae any views", "hcvae-reversed", "cvae-dropout",
                         "cvae-dropout any views", "cvae") if n in models]  # fmt: skip
    lines = ["DC from any combination of views:", "", "| views | " + " | ".join(names) + " |"]
    lines.append("|" + "---|" * (len(names) + 1))
    for views in EVERY_SET:
        cells = [mean_deviation(models[name].pooled(views), "dice") for name in names]
        lines.append(f"| {view_names(views)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def levels(models: dict[str, Model]) -> str:
    """Markdown: nats of every latent level at the end, first seed; below 0.05 it has collapsed."""
    lines = [
        "Kullback-Leibler term of each level at the end, nats, and time of one training:",
        "",
        "| model | level 1 | level 2 | level 3 | seconds |",
        "|---|---|---|---|---|",
    ]
    for name, found in models.items():
        values = [f"{v:.2f}" for _, v in sorted(found.runs[0].divergence.items())]
        cells = [*values, *["-"] * (3 - len(values)), f"{found.runs[0].seconds:.0f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _difference(ours: Model, theirs: Model, views: tuple[int, ...], metric: str) -> Interval:
    return paired_difference(ours.matrix(views, metric), theirs.matrix(views, metric)).interval


def _lost(found: Model) -> Interval:
    each: Sequence[float] = seed_mean(found.matrix(THREE, "dice")) - seed_mean(
        found.matrix(AXIAL, "dice")
    )
    return mean_interval(np.asarray(each))


def _claim(name: str, expected: str, value: Interval, holds: bool) -> Claim:
    return Claim(name, expected, value.mean, (value.low, value.high), holds)


def _at_least(name: str, value: Interval, least: float) -> Claim:
    return _claim(name, f">= {least:g}", value, bool(value.mean >= least))


def _at_most(name: str, value: Interval, most: float) -> Claim:
    return _claim(name, f"<= {most:g}", value, bool(value.mean <= most))


def _sign(name: str, value: Interval) -> Claim:
    return _claim(name, "> 0, 95 % interval above 0", value, bool(value.low > 0))
