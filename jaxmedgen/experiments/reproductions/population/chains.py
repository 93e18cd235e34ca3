"""The models behind the arms: does EM work, and have the chains converged?"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmedgen.data.phantoms.population import Population
from jaxmedgen.data.sources import Source
from jaxmedgen.experiments.paddit_arm import Model
from jaxmedgen.experiments.reproductions.record import Claim
from jaxmedgen.train.metrics_log import read_metrics

LEAST_FALL = 40.0
NOISE_TOLERANCE = 20.0


@dataclasses.dataclass(frozen=True)
class Fit:
    """How well one model describes its subjects.

    Attributes:
        start: root mean square of ``I_k - mean`` before EM.
        residual: of ``I_k o phi_k - I_T`` after it, samples' mean square included.
        noise: true standard deviation of the images' noise.
        last: scalars of the last iteration, see `paddit_moments.iteration_metrics`.
        change: relative change of the template in every learning iteration.
        sharpness: of the template, mean of its gradient, before and after.
    """

    start: float
    residual: float
    noise: float
    last: Mapping[str, Any]
    change: tuple[float, ...]
    sharpness: tuple[float, float]

    @property
    def fall(self) -> float:
        """How much the residual falls, in per cent."""
        return 100 * (1 - self.residual / self.start)

    @property
    def noise_error(self) -> float:
        """How far sigma is from the true noise, in per cent."""
        return 100 * (self.last["sigma"] / self.noise - 1)


def judge(model: Model, labelled: Source, pool: Population) -> Fit:
    """Reads a model's log and compares it with the truth.

    Args:
        model: trained on `labelled`.
        labelled: some subjects of `pool`.
        pool: the phantoms; those without noise tell how much there is.
    """
    lines = [x for x in read_metrics(model.folder / "metrics.jsonl") if x["split"] == "train"]
    images = np.stack([labelled[k]["image"] for k in range(len(labelled))])
    mean = images.mean(0)
    return Fit(
        start=float(np.sqrt(((images - mean) ** 2).mean())),
        residual=lines[-1]["residual"],
        noise=true_noise(labelled, pool),
        last=lines[-1],
        change=tuple(line["template_change"] for line in lines if line["template_change"] > 0),
        sharpness=(_sharpness(mean[..., 0]), lines[-1]["sharpness"]),
    )


def true_noise(labelled: Source, pool: Population) -> float:
    """Root mean square of the noise of some subjects' images, in the images' units."""
    clean = dataclasses.replace(pool, noise=0.0)
    number = {name: k for k, name in enumerate(pool.info.case_names)}
    squares = []
    for k, name in enumerate(labelled.info.case_names):
        seen, made = labelled[k]["image"].ravel(), clean[number[name]]["image"].ravel()
        # Both are z-scored, by different numbers: a line leads from one to the other.
        line = np.polynomial.Polynomial.fit(made, seen, 1)
        squares.append(np.mean((seen - line(made)) ** 2))
    return float(np.sqrt(np.mean(squares)))


def _sharpness(image) -> float:
    return float(np.sqrt(sum(g**2 for g in np.gradient(image))).mean())


def claims(fits: list[Fit]) -> tuple[Claim, ...]:
    """The worst of all seeds counts."""
    fall = min(fit.fall for fit in fits)
    noise = max((fit.noise_error for fit in fits), key=abs)
    rates = [fit.last["acceptance"] for fit in fits]
    worst = max(rates, key=lambda rate: abs(rate - 0.75))
    rhat = max(fit.last["rhat"] for fit in fits)
    folding = max(fit.last["folding"] for fit in fits)
    within = f"within {NOISE_TOLERANCE:.0f} %"
    return (
        Claim(
            "fall of the template's residual over EM in per cent, smallest of all seeds",
            f">= {LEAST_FALL:.0f}",
            fall,
            None,
            fall >= LEAST_FALL,
        ),
        Claim(
            "error of sigma as the noise in per cent, largest of all seeds",
            within,
            noise,
            None,
            abs(noise) <= NOISE_TOLERANCE,
        ),
        Claim(
            "acceptance of HMC, the seed furthest from 0.75",
            "0.6 to 0.9",
            worst,
            None,
            0.6 <= worst <= 0.9,
        ),
        Claim(
            "split R-hat of the energy, worst subject of all seeds", "< 1.1", rhat, None, rhat < 1.1
        ),
        Claim(
            "folded voxels of the posterior samples in per cent, worst seed",
            "0",
            folding,
            None,
            folding == 0,
        ),
    )


def table(fits: list[Fit], seeds: list[str]) -> str:
    """Diagnostics of every model."""
    lines = [
        "| model | residual before, after | sharpness before, after | noise, sigma, corrected "
    ]
    lines[0] += "| acceptance | median error of H | worst R-hat | least ESS | folding (%) "
    lines[0] += "| inverse error (voxels) | template's last change |"
    lines += ["|---" * 11 + "|"]
    for name, fit in zip(seeds, fits):
        last = fit.last
        lines.append(
            f"| {name} | {fit.start:.3f}, {fit.residual:.3f} "
            f"| {fit.sharpness[0]:.3f}, {fit.sharpness[1]:.3f} "
            f"| {fit.noise:.3f}, {last['sigma']:.3f}, {last['noise']:.3f} "
            f"| {last['acceptance']:.2f} | {last['energy_error']:.2f} "
            f"| {last['rhat']:.3f} | {last['ess']:.0f} "
            f"| {last['folding']:.3f} | {last['inverse_error']:.3f} | {fit.change[-1]:.4f} |"
        )
    return "\n".join(lines)
