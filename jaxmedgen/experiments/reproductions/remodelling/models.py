"""Trained models of shapes by arm and seed, and what they do on held-out subjects."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import Sources
from jaxmedgen.data.phantoms.left_ventricle import LeftVentricles
from jaxmedgen.experiments.remodelling.outcome import Outcome, observe
from jaxmedgen.experiments.reproductions.record import Claim, Options
from jaxmedgen.experiments.reproductions.trained_model import overridden, trained_model
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.shape.lvae import LadderShapeVae

EXTERNAL = {"amplitude": 0.6, "body": 1.1, "blur": 3.0}
"""Another population: milder disease, larger bodies, masks of a scanner with larger voxels."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        system: the model.
        variables: of its trained state.
        sources: its subjects; seeds differ in them.
        test: what it does on the test subjects.
        seconds: of its training.
        seed: of the training and its subjects.
    """

    system: LadderShapeVae
    variables: PlayerVariables
    sources: Sources
    test: Outcome
    seconds: float
    seed: int


def trained(options: Options, name: str, arm: str, seed: int, extra: str = "") -> Model:
    """The model of an arm, trained in ``WORKDIR/ARM-SEED`` or read from there.

    Training and subjects are those of the seed.
    """
    config = load_config(f"{name}:cpu,arm={arm}{extra}")
    with config.unlocked():
        config.seed = config.data.seed = seed
    overridden(config, options)
    folder = f"{arm}{extra.replace(',', '-').replace('=', '-')}-{seed}"
    model = trained_model(options, folder, config)
    outcome = observe(model.system, model.variables, model.sources.test)
    return Model(model.system, model.variables, model.sources, outcome, model.seconds, seed)


def external(model: Model) -> Outcome:
    """What a model of ventricles does on as many subjects of the other population."""
    test = model.sources.test
    shape = model.system.net.shape
    seed = 1000 + len(model.sources.train)
    return observe(
        model.system, model.variables, LeftVentricles(len(test), tuple(shape), seed, **EXTERNAL)
    )


def model_table(models: Mapping[str, Sequence[Model]], spacing: tuple[float, ...]) -> str:
    """Markdown: a line an arm, means (standard deviations over subjects of all seeds)."""
    rows = [
        "| arm | seeds | accuracy | sensitivity | specificity | AUC | Dice of each phase "
        "| Hausdorff, mm | KL from the top, nats | seconds |",
        "|" + "---|" * 10,
    ]
    for arm, group in models.items():
        decoded = group[0].system.criterion.reconstruction
        classified = group[0].system.criterion.classification > 0
        scores = [m.test.scores for m in group]
        cells = [arm, str(len(group))]
        for field in ("accuracy", "sensitivity", "specificity", "auc"):
            values = [getattr(s, field) for s in scores]
            cells.append(f"{np.mean(values):.3f}" if classified else "-")
        for measure, digits in (("dice", 3), ("hausdorff", 1)):
            if not decoded:
                cells.append("-")
                continue
            values = [getattr(m.test, measure)(*((spacing,) if digits == 1 else ())) for m in group]
            joined = np.concatenate(values, 1)
            means, spread = np.nanmean(joined, 1), np.nanstd(joined, 1)
            cells.append(
                " / ".join(f"{a:.{digits}f} ± {b:.{digits}f}" for a, b in zip(means, spread))
            )
        levels = group[0].system.levels
        cells.append(" / ".join(f"{np.mean([m.test.kl[n] for m in group]):.1f}" for n in levels))
        cells.append(f"{np.mean([m.seconds for m in group]):.0f}")
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def mean_accuracy(models: Sequence[Model]) -> float:
    """Mean over seeds."""
    return float(np.mean([m.test.scores.accuracy for m in models]))


def at_least(name: str, measured: float, least: float | int) -> Claim:
    """A claim that a number is large enough."""
    return Claim(name, f">= {least:g}", float(measured), None, bool(measured >= least - 1e-9))


def at_most(name: str, measured: float, most: float | int) -> Claim:
    """A claim that a number is small enough."""
    return Claim(name, f"<= {most:g}", float(measured), None, bool(measured <= most + 1e-9))


def above(name: str, measured: float, limit: float | int) -> Claim:
    """A claim that a number exceeds a limit."""
    return Claim(name, f"> {limit:g}", float(measured), None, bool(measured > limit))
