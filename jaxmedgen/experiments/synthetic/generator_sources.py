"""Where generators come from: trained on an arm's subjects, a run of ``bin/train``, or ready."""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config
from jaxmedgen.data.image_slices import ImageSlices, thick_axis
from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.phantoms.vendors import VENDORS
from jaxmedgen.data.sources import Source, in_memory
from jaxmedgen.experiments.generator_settings import fit_to_subjects
from jaxmedgen.experiments.model_training import counted_seconds, model_seconds, train_model
from jaxmedgen.experiments.runs import open_run
from jaxmedgen.experiments.synthetic.generators import (
    Generator,
    LabelledImages,
    StyleBank,
    SystemGenerator,
)
from jaxmedgen.systems.base import build_system
from jaxmedgen.train.collapse import collapse_warnings
from jaxmedgen.train.metrics_log import read_metrics

GeneratorFor = Callable[[Source, pathlib.Path, int], Generator]
"""``(labelled subjects, folder, seed) -> generator``: trained on them, or there already."""


def ready(generator: Generator) -> GeneratorFor:
    """A generator that exists already and looks at no subjects."""
    return lambda labelled, folder, seed: generator


def style_bank(config: ConfigDict) -> StyleBank:
    """A few unlabelled images of every vendor of the heart phantoms, none of them a test image."""
    data, count = config.data, config.experiment.style_images
    if data.kind != "heart_slices":
        return {}
    return {
        vendor: np.stack(
            [
                record["image"]
                for record in in_memory(
                    HeartSlices(count, tuple(data.shape), data.seed + 2, vendors=(vendor,))
                ).records
            ]
        )
        for vendor in VENDORS
    }


class Merged:
    """A generator of fewer classes than the subjects have: it is shown theirs merged into its own.

    The images keep the subjects' labels.
    """

    def __init__(self, generator: Generator, target_of: Sequence[int]) -> None:
        """Label value v of the subjects is class ``target_of[v]`` of the generator."""
        self._generator, self._table = generator, np.asarray(target_of, np.int32)

    @property
    def name(self) -> str:
        """The generator's."""
        return self._generator.name

    @property
    def warnings(self) -> tuple[str, ...]:
        """The generator's."""
        return tuple(getattr(self._generator, "warnings", ()))

    def __call__(
        self,
        seed: int,
        image: Float[np.ndarray, "b *s c"],
        label: Int[np.ndarray, " b *s"],
        styles: Sequence[str],
    ) -> LabelledImages:
        """As the generator."""
        return self._generator(seed, image, self._table[label], styles)[0], label


def trained_run(
    workdir: pathlib.Path,
    styles: StyleBank | None = None,
    target_of: Sequence[int] = (),
    target_names: Sequence[str] = (),
) -> GeneratorFor:
    """The generator of a run of ``bin/train``, for subjects of its own classes.

    Args:
        workdir: of the run.
        styles: images by the name of their style.
        target_of: class of each label value of the subjects, where some are merged for prediction.
        target_names: of these classes: a generator of them is shown merged label maps.

    Raises:
        ConfigError: the folder holds no run.
        ValueError: its system makes no labelled images.
    """
    run = open_run(workdir)
    name = f"{run.config.system}, {workdir.name}"
    variables, classes = run.variables()[0], run.info.class_names
    said = collapse_warnings(read_metrics(workdir / "metrics.jsonl", split="train"))
    rank = len(run.info.spacing)
    whole = SystemGenerator(run.system, variables, name, styles, warnings=said)

    def check(labelled: Source, folder: pathlib.Path, seed: int) -> Generator:
        del folder, seed
        spacing, generator = labelled.info.spacing, whole
        if len(spacing) != rank:
            if (rank, len(spacing)) != (2, 3):
                raise ValueError(
                    f"{workdir} was trained on images of {rank} axes, these subjects have "
                    f"{len(spacing)}: train a generator of such subjects"
                )
            axis = thick_axis(spacing)
            generator = SystemGenerator(
                run.system, variables, name, styles, slice_axis=axis, warnings=said
            )
        if labelled.info.class_names == classes or generator.keeps_classes:
            return generator
        if tuple(target_names) == classes and generator.renders_labels:
            return Merged(generator, target_of)
        raise ValueError(
            f"{workdir} was trained on the classes {', '.join(classes)}, these subjects have "
            f"{', '.join(labelled.info.class_names)}: train a generator of their classes"
        )

    return check


def trained_on(
    config_name: str, styles: StyleBank | None = None, *, steps: int | None = None
) -> GeneratorFor:
    """Trains a configuration's system on the labelled subjects that it is given.

    Of the data group only ``as_slices`` and ``empty_slices`` count: volumes are cut into slices
    where it says so, and shown whole otherwise. The image size becomes the subjects'.

    Args:
        config_name: the configuration.
        styles: images by the name of their style.
        steps: after which training stops, for generators that are not ready; with a constant
            learning rate these are the checkpoints of one training.
    """

    def make(labelled: Source, folder: pathlib.Path, seed: int) -> Generator:
        config, shown, axis = _fitted(config_name, labelled)
        with config.unlocked():
            config.seed = seed
            if steps is not None:
                config.steps = config.checkpoint_every = steps
        with counted_seconds(folder):
            system, variables = train_model(config, shown, folder)
        said = collapse_warnings(read_metrics(folder / "metrics.jsonl", split="train"))
        return SystemGenerator(
            system, variables, config_name, styles, slice_axis=axis, warnings=said,
            seconds=model_seconds(folder),
        )  # fmt: skip

    return make


def check_trainable(config_name: str, labelled: Source) -> None:
    """Checks that a configuration's system makes labelled images of some subjects.

    Its system is built for them, which costs nothing beside a training: what would be refused once
    the first generator is trained is refused before anything is.

    Args:
        config_name: the configuration.
        labelled: subjects like those that it will be trained on.

    Raises:
        ConfigError: there is no such configuration.
        ValueError: its system makes no labelled images, or none of such subjects.
    """
    config, shown, axis = _fitted(config_name, labelled)
    SystemGenerator(build_system(config, shown.info), {}, config_name, slice_axis=axis)


def _fitted(config_name: str, labelled: Source) -> tuple[ConfigDict, Source, int | None]:
    """A configuration for some subjects, these as its system sees them, the axis of slices."""
    config, shown, axis = load_config(config_name), labelled, None
    if config.data.get("as_slices") and len(labelled.info.spacing) == 3:
        shown = ImageSlices(labelled, config.data.get("empty_slices", True))
        axis = thick_axis(labelled.info.spacing)
    with config.unlocked():
        fit_to_subjects(config, tuple(shown[0]["image"].shape[:-1]))
        if "subjects" in config.get("model", {}):  # a model of so many centroids
            config.batch_size = config.model.subjects = len(labelled)
            config.model.update(kinds=1, condition="")
            config.parallel.data = 1  # one batch of all subjects
        config.data.target_of, config.data.target_names = (), ()
    return config, shown, axis
