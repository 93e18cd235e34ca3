"""A small ablation with known scores: two arms and a reference, two budgets, three seeds."""

import numpy as np
import pytest

from jaxmedgen.report.results import AblationResults, Overlay, Run

NAMES = ("background", "heart", "lung")


def _labels(shape=(12, 10, 8)):
    label = np.zeros(shape, np.int32)
    label[(slice(1, 5),) * len(shape)] = 1
    label[(slice(5, 8),) * len(shape)] = 2
    return label


def make_scores(dice, cases):
    """Scores with the same Dice in both classes, rising from case to case."""
    return {
        f"case_{i}": {
            name: {
                "dice": dice + 0.01 * i,
                "iou": 0.5,
                "nsd": 0.6,
                "hd95": 4.0,
                "assd": 1.5,
                "reference_size": 64.0,
                "prediction_size": 60.0,
            }
            for name in NAMES[1:]
        }
        for i in range(cases)
    }


def make_results(cases=10, gains=None, shape=(12, 10, 8), budgets=(2, 8), seeds=(0, 1, 2)):
    gains = gains or {"none": 0.0, "affine": 0.1, "gan": 0.0}
    rng = np.random.default_rng(0)
    runs = []
    for budget in budgets:
        for arm, gain in gains.items():
            for seed in seeds:
                base = 0.5 + 0.02 * budget + gain + 0.001 * seed
                scores = make_scores(base, cases)
                for case in scores.values():
                    for values in case.values():
                        values["dice"] += float(rng.normal(0, 0.004))
                curve = tuple(
                    {"step": step, "train_loss": 1.0 / step, "validation_dice": base - 0.1 / step}
                    for step in (1, 2, 4)
                )
                runs.append(Run(arm, budget, seed, 60.0, 30.0 * (arm == "gan"), scores, curve))
    label = _labels(shape)
    image = label + rng.normal(0, 0.1, shape).astype(np.float32)
    overlays = tuple(
        Overlay(arm, 2, 0, f"case_{i}", 0.5 + 0.1 * i, image, label, np.roll(label, i, 0))
        for arm in gains
        for i in range(3)
    )
    return AblationResults(
        title="Test <ablation>",
        dataset="phantoms & friends",
        class_names=NAMES,
        spacing=(1.0, 1.5, 3.0)[: len(shape)],
        arms={arm: f"The {arm} arm." for arm in gains},
        reference_arm="none",
        budgets=budgets,
        seeds=seeds,
        runs=tuple(runs),
        overlays=overlays,
        samples={arm: ((image, label),) for arm in gains},
        settings={"steps": 100, "optimiser": {"name": "adamw", "rate": 1e-3}},
        environment={"jax": "0.10"},
        command="bin/ablate --arms none,affine,gan",
        revision="abc1234",
        total_seconds=4000.0,
    )


@pytest.fixture(scope="session")
def make():
    return make_results


@pytest.fixture(scope="session")
def results():
    return make_results()
