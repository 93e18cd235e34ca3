"""The harmonic claim: locally rotation-invariant layers on textures that differ in shape mixture.

Accuracy of the toy network of Andrearczyk et al. with each layer, on cubes none of which trained.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import Sources
from jaxmedgen.experiments.reproductions.record import Claim, Options, Part
from jaxmedgen.experiments.reproductions.trained_model import stored, trained_model
from jaxmedgen.systems.base import CanClassify, PlayerVariables
from jaxmedgen.train.environment import write_json

SEEDS = 3
ARMS = {
    "plain2": ("two ordinary 3^3 kernels, as many parameters as sse", "arm=plain"),
    "plain": ("three ordinary 3^3 kernels, more parameters than ssb", "arm=plain"),
    "sse": ("power spectrum, N = 2", "arm=sse"),
    "ssb": ("bispectrum, N = 2", "arm=ssb"),
    "s1": ("one steered copy, N = 2", "arm=s,rotations=1"),
    "s24": ("maximum over 24 steered copies, N = 2", "arm=s,rotations=24"),
}
_SETTINGS = {"plain2": {"net.filters": "2"}}
_BATCH = 25


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Accuracies of an arm, one a seed, its trainable parameters and seconds."""

    accuracies: tuple[float, ...]
    parameters: int
    seconds: float


def run(options: Options) -> Part:
    """Trains every layer with every seed and compares accuracies."""
    outcomes = {}
    with options.progress:
        for arm in ARMS:
            runs = [_run(options, arm, seed) for seed in range(SEEDS)]
            outcomes[arm] = Outcome(
                tuple(r["accuracy"] for r in runs),
                runs[0]["parameters"],
                sum(r["seconds"] for r in runs),
            )
    seconds = sum(outcome.seconds for outcome in outcomes.values())
    return Part(seconds, claims(outcomes), table(outcomes))


def _run(options: Options, arm: str, seed: int) -> dict[str, float]:
    """One training and its test accuracy, or what an earlier call wrote of it."""
    path = options.workdir / "textures" / arm / f"seed{seed}" / "accuracy.json"
    own = {"seed": str(seed), "data.seed": str(seed)}
    own |= _SETTINGS.get(arm, {})
    config = load_config(f"lri:cpu,{ARMS[arm][1]}", {**own, **options.overrides})
    found = stored(path, config)
    if found is not None:
        return found
    started = time.perf_counter()
    model = trained_model(
        options, f"textures/{arm}/seed{seed}", config, title=f"{arm}, seed {seed}"
    )
    found = {
        "accuracy": accuracy(model.system, model.variables, model.sources),
        "parameters": sum(x.size for x in jax.tree.leaves(model.variables)),
        "seconds": time.perf_counter() - started,
    }
    write_json(path, found)
    return found


def accuracy(system: CanClassify, variables: PlayerVariables, sources: Sources) -> float:
    """Share of test cubes that are classified rightly."""
    classify = jax.jit(system.classify)
    right = []
    for start in range(0, len(sources.test), _BATCH):
        records = [sources.test[i] for i in range(start, min(start + _BATCH, len(sources.test)))]
        images = jnp.stack([record["image"] for record in records])
        guessed = np.asarray(classify(variables, images)).argmax(-1)
        right += list(guessed == np.array([record["label"] for record in records]))
    return float(np.mean(right))


def claims(outcomes: dict[str, Outcome]) -> tuple[Claim, ...]:
    """Spectra beat an ordinary convolution, many steered copies beat one."""
    mean = {arm: float(np.mean(outcome.accuracies)) for arm, outcome in outcomes.items()}
    found = [
        Claim(
            f"{arm} (N = 2) over {kernels} ordinary kernels: accuracy",
            ">= 0.10",
            mean[arm] - mean[plain],
            None,
            mean[arm] - mean[plain] >= 0.10,
        )
        for arm, plain, kernels in (("sse", "plain2", "two"), ("ssb", "plain", "three"))
    ]
    gain = mean["s24"] - mean["s1"]
    name = "S-LRI with 24 rotations over S-LRI with one: accuracy"
    return (*found, Claim(name, "> 0", gain, None, gain > 0))


def table(outcomes: dict[str, Outcome]) -> str:
    """Accuracy, its spread and parameters by layer."""
    lines = ["| layer | accuracy | every seed | parameters |", "|---|---|---|---|"]
    for arm, outcome in outcomes.items():
        each = ", ".join(f"{a:.3f}" for a in outcome.accuracies)
        lines.append(
            f"| {arm}: {ARMS[arm][0]} | {np.mean(outcome.accuracies):.3f} | {each} "
            f"| {outcome.parameters} |"
        )
    return "\n".join(lines)
