"""Do synthetic images help a classifier? Trained on raw, raw and synthetic, or synthetic alone.

All sets get the same number of optimiser steps of the same size, whatever they hold, and the same
untouched test images. Data lie on the device and a training is one program, compiled once for all
sets.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from jaxmedgen.augment.presets import preset
from jaxmedgen.data.sources import Source
from jaxmedgen.nets.image_classifiers import CNNClassifier, DenseNet, MLPClassifier
from jaxmedgen.systems.representation.image_classifier import PLAYER, ImageClassifier
from jaxmedgen.train.objectives import PlayerSettings
from jaxmedgen.train.step import make_step

CLASSIFIERS = ("mlp", "cnn", "densenet")


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Images with their classes.

    Attributes:
        image: ``[n, *s, c]``.
        kind: class of each.
    """

    image: Float[np.ndarray, " n *s c"]
    kind: Int[np.ndarray, " n"]

    def __add__(self, other: "LabelledImages") -> "LabelledImages":
        """Both together."""
        return LabelledImages(
            np.concatenate([self.image, other.image]), np.concatenate([self.kind, other.kind])
        )


@dataclasses.dataclass(frozen=True)
class Trials:
    """How classifiers are trained and scored.

    Attributes:
        classifier: one of `CLASSIFIERS`.
        features: widths of its layers, where it takes them; () for the default.
        classes: number of classes.
        runs: trainings a set, each with its own weights and batches.
        steps: of a training.
        batch: samples a step.
        learning_rate: of Adam.
        augmentation: preset of the training images.
        seed: of all runs.
    """

    classifier: str = "mlp"
    features: tuple[int, ...] = ()
    classes: int = 4
    runs: int = 3
    steps: int = 1500
    batch: int = 128
    learning_rate: float = 1e-3
    augmentation: str = "none"
    seed: int = 0

    def system(self, axes: int, channels: int) -> ImageClassifier:
        """The classifier as a system.

        Raises:
            ValueError: an unknown classifier.
        """
        makes = {"mlp": MLPClassifier, "cnn": CNNClassifier, "densenet": DenseNet}
        if self.classifier not in makes:
            raise ValueError(
                f"classifier '{self.classifier}': choose one of {', '.join(CLASSIFIERS)}"
            )
        more = {"features": self.features} if self.features else {}
        return ImageClassifier(
            net=makes[self.classifier](self.classes, **more),
            settings=PlayerSettings(optax.adam(self.learning_rate)),
            augmentation=preset(self.augmentation, (1.0,) * axes),
            channels=channels,
            target="kind",
        )


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores on the test images, one a run.

    Attributes:
        accuracy: in percent.
        balanced: mean recall of the classes, in percent.
    """

    accuracy: tuple[float, ...]
    balanced: tuple[float, ...]


def labelled_images(source: Source, key: str = "kind") -> LabelledImages:
    """All images of a source with the classes that a key of its records holds."""
    records = [source[i] for i in range(len(source))]
    return LabelledImages(
        np.stack([r["image"] for r in records]),
        np.array([int(r[key]) for r in records], np.int32),
    )


def score_sets(
    trials: Trials, sets: Mapping[str, LabelledImages], test: LabelledImages
) -> dict[str, Scores]:
    """Trains classifiers on each set and scores them on the test images.

    Args:
        trials: how.
        sets: training images by name.
        test: images that no set, augmentation or choice has seen.

    Raises:
        ValueError: a set without images.
    """
    for name, images in sets.items():
        if not len(images.image):
            raise ValueError(f"set '{name}' has no images: a classifier needs some")
    largest = max(len(images.image) for images in sets.values())
    shape = test.image.shape[1:]
    run = _program(trials, len(shape) - 1, shape[-1])
    scores = {}
    for name, images in sets.items():
        missing = [(0, largest - len(images.image))]
        image = np.pad(images.image, missing + [(0, 0)] * len(shape))
        kind = np.pad(images.kind, missing)
        accuracy, balanced = [], []
        for number in range(trials.runs):
            key = jax.random.fold_in(jax.random.key(trials.seed), number)
            found = np.asarray(run(key, image, kind, len(images.image), test.image))
            accuracy.append(100 * float(accuracy_score(test.kind, found)))
            balanced.append(100 * float(balanced_accuracy_score(test.kind, found)))
        scores[name] = Scores(tuple(accuracy), tuple(balanced))
    return scores


@functools.cache
def _program(trials: Trials, axes: int, channels: int):
    """``(key, image, kind, count, test image) -> predicted classes``, compiled."""
    system = trials.system(axes, channels)
    step = make_step(system.objectives(), system.players(), prepare=system.prepare)

    @jax.jit
    def run(key, image, kind, count, unseen):
        state = system.init(key, {"image": image[:1]})

        def advance(state, number):
            here = jax.random.fold_in(state.key, number)
            chosen = jax.random.randint(here, (trials.batch,), 0, count)
            index = (number * trials.batch + jnp.arange(trials.batch)).astype(jnp.int32)
            batch = {"image": image[chosen], "kind": kind[chosen], "index": index}
            return step(state, batch)[0], None

        state = jax.lax.scan(advance, state, jnp.arange(trials.steps))[0]
        variables = {PLAYER: state.players[PLAYER].evaluation_variables()}
        return jnp.argmax(system.classify(variables, unseen), -1)

    return run
