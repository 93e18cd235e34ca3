"""Classifiers of handwritten digits from 50 images a class and what generative models add.

The source's protocol in a size for one core: 500 digits, 50 of each class, of which 400 train, with
latents of ten dimensions and T = 1.5. A dense classifier in place of DenseNet and all others of the
folder as test images; the 100 validation digits are not used, since no training is stopped early by
them.
"""

import dataclasses
import time

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config, set_value
from jaxmedgen.experiments.classification import Scores, Trials, labelled_images, score_sets
from jaxmedgen.experiments.reproductions.manifold import junctions, pictures
from jaxmedgen.experiments.reproductions.record import Claim, Options
from jaxmedgen.experiments.reproductions.trained_model import trained_model
from jaxmedgen.report.pictures import Rgb

STEPS = {"vae": "500", "rhvae": "500"}
"""Of full batch, by arm; the sheet's limit is 10,000 with early stopping."""
SAMPLES = 200
"""Synthetic images a class."""
TRIALS = Trials(features=(256,), classes=10, runs=3)
PUBLISHED = {
    "raw": "89.9",
    junctions.CLASSIC: "92.8",
    "VAE, prior": "69.9",
    "RHVAE, prior": "76.0",
    "RHVAE, manifold": "87.2",
    "raw + VAE, prior": "88.5",
    "raw + RHVAE, prior": "89.9",
    "raw + RHVAE, manifold": "91.0",
}
"""Accuracy in percent, DenseNet, 200 synthetic images a class; augmentation five times as many."""


@dataclasses.dataclass(frozen=True)
class DigitScores:
    """What came out.

    Attributes:
        scores: of every set.
        tested: number of test images.
        picture: training digits and draws of each model.
        seconds: of trainings and classifiers, earlier ones included.
    """

    scores: dict[str, Scores]
    tested: int
    picture: Rgb
    seconds: float


def configuration(options: Options, arm: str) -> ConfigDict:
    """Of a training; overrides of the command line come last."""
    config = load_config(f"rhvae:gpu,arm={arm}")
    with config.unlocked():
        config.data.folder = str(options.data)
    settings = {"steps": STEPS[arm], "patience": "0", "sampling.transitions": "100"}
    for key, value in (settings | dict(options.overrides)).items():
        set_value(config, key, value)
    with config.unlocked():
        config.checkpoint_every = config.steps
    return config


def digit_scores(options: Options, trials: Trials = TRIALS, samples: int = SAMPLES) -> DigitScores:
    """Trains models on ``options.data`` (a folder of MNIST's files) and classifiers of each set."""
    started = time.perf_counter()
    models = {
        arm: trained_model(options, f"digits/{arm}", configuration(options, arm))
        for arm in dict.fromkeys(arm for arm, _ in junctions.SETS.values())
    }
    spent = time.perf_counter() - started
    sources = models["vae"].sources
    raw, test = labelled_images(sources.train), labelled_images(sources.test)
    synthetic = {
        name: junctions.labelled(junctions.images(models[arm], prior, samples, 0))
        for name, (arm, prior) in junctions.SETS.items()
    }
    sets = {junctions.RAW: raw, **synthetic}
    sets |= {f"raw + {name}": raw + images for name, images in synthetic.items()}
    scores = score_sets(trials, sets, test)
    moved = dataclasses.replace(trials, augmentation="affine")
    scores |= score_sets(moved, {junctions.CLASSIC: raw}, test)
    shown = {name: (models[arm], prior) for name, (arm, prior) in junctions.SETS.items()}
    picture = pictures.sample_rows(shown, shown=3)
    seconds = time.perf_counter() - started - spent
    seconds += max(spent, sum(model.seconds for model in models.values()))
    return DigitScores(scores, len(test.kind), picture, seconds)


def claims(found: DigitScores) -> tuple[Claim, ...]:
    """The order of the published table, without its sizes."""
    mean, manifold = junctions.mean_accuracy, "RHVAE, manifold"
    pairs = (
        (manifold, "VAE, prior", True),
        (manifold, "RHVAE, prior", True),
        (f"raw + {manifold}", junctions.RAW, False),
    )
    made = []
    for one, other, strict in pairs:
        gap = mean(found.scores, one) - mean(found.scores, other)
        expected = "> 0" if strict else ">= 0"
        made.append(
            Claim(f"MNIST: {one} less {other}, points", expected, gap, None,
                  bool(gap > 0 if strict else gap >= 0))
        )  # fmt: skip
    return tuple(made)


def table(found: DigitScores) -> str:
    """Markdown: a line a set, with the published number."""
    lines = [
        f"MNIST, 40 training digits a class, accuracy on {found.tested} others, %, {SAMPLES} "
        f"synthetic images a class; one seed, mean of {TRIALS.runs} dense classifiers (published: "
        "DenseNet, longer trainings; affine maps there are five times the images):",
        "",
        "| training set | accuracy | published |",
        "|---|---|---|",
    ]
    for name in PUBLISHED:
        value = junctions.mean_accuracy(found.scores, name)
        lines.append(f"| {name} | {value:.1f} | {PUBLISHED[name]} |")
    return "\n".join(lines)
