"""Claims 2, 4 and 6: what the Kullback-Leibler term is good for, and bounds of the likelihood."""

import itertools

import matplotlib.figure
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxmedgen.experiments.reproductions.record import Claim, Options, Part
from jaxmedgen.experiments.reproductions.shape_vae import models
from jaxmedgen.experiments.reproductions.shape_vae.models import (
    SEEDS,
    dense,
    scheduled,
    table,
    trained,
)
from jaxmedgen.experiments.reproductions.trained_model import TrainedModel
from jaxmedgen.experiments.shape_generation import draw, interpolate, reconstruct
from jaxmedgen.experiments.shape_scores import image_rows, shape_scores
from jaxmedgen.losses.reconstruction import reconstruction_loss
from jaxmedgen.report.formats import over_seeds
from jaxmedgen.train.collapse import collapse_warnings
from jaxmedgen.train.metrics_log import read_metrics

BETAS = (0.1, 1.0, 4.0, 16.0)
DRAWS = (8, 64)
_COLUMNS = 14
_COLLAPSE_STEPS = 1000


def mask_part(options: Options) -> Part:
    """All models of digit-like masks without conditions."""
    found: dict[float, list[TrainedModel]] = {}
    for beta in (0.0, *BETAS):
        arm = "arm=vae" if beta else "arm=ae"
        found[beta] = [
            trained(
                options, f"digits/beta{beta:g}-seed{seed}",
                dense(arm, seed, {"criterion.beta": str(float(beta))}),
            )
            for seed in range(SEEDS)
        ]  # fmt: skip
    scores = {
        beta: [shape_scores(m.system, m.variables, m.sources.train, m.sources.test, draws=8)
               for m in each]
        for beta, each in found.items()
    }  # fmt: skip
    nats = {beta: [_distortion(m) for m in each] for beta, each in found.items()}
    curves = {beta: [models.bounds(m, DRAWS[0]) for m in found[beta]] for beta in BETAS}
    collapse, watched, extra = collapse_claim(options)
    rows = [
        [
            "AE" if not beta else f"VAE, beta {beta:g}",
            over_seeds(nats[beta], 1),
            "-" if not beta else over_seeds([c["kl"].mean() for c in curves[beta]], 1),
            "-" if not beta else over_seeds([-c["log_likelihood"].mean() for c in curves[beta]], 1),
            *(over_seeds([s[k] for s in scores[beta]]) for k in ("dice", "specificity")),
            over_seeds([s["active_units"] for s in scores[beta]], 1),
        ]
        for beta in found
    ]
    text = (
        f"Digit-like masks, 16 latent dimensions, {SEEDS} seeds of data and training, 400 held-out "
        "masks; mean (standard deviation over seeds):\n\n"
        + table(
            "model | BCE at the posterior mean, nats | KL, nats | distortion, nats | Dice "
            "| specificity, 1 - Dice | active units",
            rows,
        )
    )
    bound_claims, bound_table = _bound_order(found[1.0])
    claims = (
        *_sampling(scores, nats),
        *_rate_distortion(curves),
        *bound_claims,
        collapse,
    )
    seconds = sum(m.seconds for each in found.values() for m in each) + extra
    return Part(seconds, claims, f"{text}\n\n{bound_table}", _pictures(found, curves), (watched,))


def _distortion(model: TrainedModel) -> float:
    """Cross-entropy of held-out masks at their posterior means, in nats."""
    batch = models.held_out(model)
    p = np.clip(reconstruct(model.system, model.variables, batch), 1e-7, 1 - 1e-7)
    logits = np.log(p) - np.log1p(-p)
    return float(reconstruction_loss("bce", batch["image"], batch["image"] * 0 + logits))


def _sampling(scores, nats) -> tuple[Claim, ...]:
    ratios = [v["specificity"] / a["specificity"] for v, a in zip(scores[1.0], scores[0.0])]
    gaps = [a - v for a, v in zip(nats[0.0], nats[1.0])]
    return (
        Claim(
            "specificity of N(0, I) samples, VAE to AE, largest of the seeds",
            "< 0.7 in every seed",
            max(ratios),
            (min(ratios), max(ratios)),
            max(ratios) < 0.7,
        ),
        Claim(
            "held-out BCE of AE less VAE at posterior means, nats, largest of the seeds",
            "<= 0 in every seed",
            max(gaps),
            (min(gaps), max(gaps)),
            max(gaps) <= 0,
        ),
    )


def _rate_distortion(curves) -> tuple[Claim, ...]:
    kl = np.array([[c["kl"].mean() for c in curves[beta]] for beta in BETAS])
    distortion = np.array([[-c["log_likelihood"].mean() for c in curves[beta]] for beta in BETAS])
    falls, rises = np.diff(kl, axis=0).max(), np.diff(distortion, axis=0).min()
    steps = ", ".join(f"{a:g} to {b:g}" for a, b in itertools.pairwise(BETAS))
    return (
        Claim(
            f"KL falls with beta ({steps}): largest change, nats, all seeds",
            "< 0", float(falls), None, bool(falls < 0),
        ),
        Claim(
            "distortion rises with beta: smallest change, nats, all seeds",
            "> 0", float(rises), None, bool(rises > 0),
        ),
    )  # fmt: skip


def _bound_order(found: list[TrainedModel]) -> tuple[tuple[Claim, ...], str]:
    """ELBO <= IWAE-8 <= IWAE-64, tolerance two standard errors of the difference."""
    rows, worst = [], {"IWAE-8 less ELBO": [], "IWAE-64 less IWAE-8": []}
    for seed, model in enumerate(found):
        few, many = (models.bounds(model, n, seed=number) for number, n in enumerate(DRAWS))
        ladder = [many["elbo"], few["iwae"], many["iwae"]]
        for name, (low, high) in zip(worst, itertools.pairwise(ladder)):
            gap = high - low
            worst[name].append((float(gap.mean()), 2 * float(gap.std() / np.sqrt(len(gap)))))
        rows.append([str(seed), *(f"{x.mean():.2f}" for x in ladder)])
    claims = tuple(
        Claim(
            f"{name}, nats, smallest of the seeds",
            ">= -2 standard errors in every seed",
            min(gap for gap, _ in each),
            None,
            all(gap >= -error for gap, error in each),
        )
        for name, each in worst.items()
    )
    header = "Bounds of log p(x), VAE of beta 1, nats, means over held-out masks:\n\n"
    return claims, header + table("seed | ELBO | IWAE-8 | IWAE-64", rows)


def collapse_claim(options: Options) -> tuple[Claim, str, float]:
    """With the mean over pixels the posterior collapses, and the log says so."""
    config = scheduled(
        dense("arm=vae", 0, {"criterion.reduction": "mean"}), 0, steps=_COLLAPSE_STEPS
    )
    model = trained(options, "digits/mean-over-pixels", config)
    log = read_metrics(options.workdir / "digits/mean-over-pixels/metrics.jsonl", split="train")
    said = collapse_warnings(log)
    left = float(np.mean([line["kl"] for line in log[-5:]]))
    claim = Claim(
        "mean over pixels in place of the sum, beta 1: KL that is left, nats; the log names it",
        "< 0.05 and named",
        left,
        None,
        bool(left < 0.05 and any("posterior collapse" in w for w in said)),
    )
    note = f"The log of the run with the mean over pixels says: {'; '.join(said) or 'nothing'}."
    return claim, note, model.seconds


def _pictures(found, curves) -> dict[str, np.ndarray]:
    model, plain = found[1.0][0], found[0.0][0]
    batch = {name: x[:_COLUMNS] for name, x in models.held_out(model).items()}
    rows = [np.asarray(batch["image"])]
    rows += [reconstruct(m.system, m.variables, batch) for m in (plain, model)]
    drawn = [
        draw(m.system, m.variables, batch, 0) for m in (plain, *(found[beta][0] for beta in BETAS))
    ]
    between = [
        interpolate(model.system, model.variables, {k: x[i : i + 2] for k, x in batch.items()}, 14)
        for i in (0, 2, 4)
    ]
    return {
        "reconstructions": image_rows(rows),
        "samples": image_rows(drawn),
        "interpolations": image_rows(between),
        "rate_distortion": _curve(curves),
    }


def _curve(curves) -> np.ndarray:
    """KL against distortion, a line a seed."""
    figure = matplotlib.figure.Figure(figsize=(4.6, 3.2), layout="constrained", dpi=130)
    axes = figure.add_subplot()
    for seed in range(SEEDS):
        x = [curves[beta][seed]["kl"].mean() for beta in BETAS]
        y = [-curves[beta][seed]["log_likelihood"].mean() for beta in BETAS]
        axes.plot(x, y, marker="o", ms=4, lw=1, label=f"seed {seed}")
        if seed == 0:
            for beta, a, b in zip(BETAS, x, y):
                axes.annotate(f"beta {beta:g}", (a, b), (5, 5), textcoords="offset points")
    axes.set_xlabel("KL(q(z|x) || p(z)), nats")
    axes.set_ylabel("-E log p(x|z), nats")
    axes.margins(x=0.15)
    axes.legend(frameon=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
