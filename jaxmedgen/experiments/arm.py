"""What an arm of an ablation is: it sees some training subjects and says how to train."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.data.sources import Source
from jaxmedgen.train.progress import Progress
from jaxmedgen.types import Augment, SubjectAugment


@dataclasses.dataclass(frozen=True)
class ArmInputs:
    """What an arm may use.

    Attributes:
        config: configuration of the segmenter's training.
        labelled: labelled training subjects of this run.
        workdir: folder for what the arm trains (an augmentation model).
        seed: of this run.
        shared: folder for models that several arms of this run take: same subjects, same seed.
        progress: where the trainings of these models show theirs.
        joined: augmentation preset that a learned deformation is joined with, in one resampling
            (`joined_arm`); ``config.augment.preset`` is the same then.
        unlabelled: images of this run's other training subjects, for models that need no label;
            None unless ``config.model_unlabelled`` asks for it.
    """

    config: ConfigDict
    labelled: Source
    workdir: pathlib.Path
    seed: int
    shared: pathlib.Path
    progress: Progress | None = None
    joined: str = ""
    unlabelled: Source | None = None

    def at(self, folder: pathlib.Path) -> tuple[ConfigDict, Source, pathlib.Path, int]:
        """What a training of a model in `folder` takes first."""
        return self.config, self.labelled, folder, self.seed


@dataclasses.dataclass(frozen=True)
class ArmTraining:
    """How an arm changes the segmenter's training.

    Attributes:
        changes: dotted configuration keys and their values; a mapping takes the place of the whole
            group.
        augmentation: replaces the preset's augmentation, for learned transforms.
        seconds: what its model cost, also where another arm has trained it; None: what it took.
        warnings: what looked wrong with its model, a line each for the report.
        source: shown in training instead of the labelled subjects, say these and synthetic ones.
    """

    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    augmentation: Augment | SubjectAugment | None = None
    seconds: float | None = None
    warnings: tuple[str, ...] = ()
    source: Source | None = None

    def write_into(self, config: ConfigDict) -> None:
        """Writes the changes into the segmenter's configuration."""
        with config.unlocked():
            for key, value in self.changes.items():
                if isinstance(value, Mapping):
                    config[key] = ConfigDict(value)
                else:
                    config.update_from_flattened_dict({key: value})


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        description: one line for the report.
        prepare: trains what the arm needs and says how to train the segmenter.
        joins: how it can be joined with a preset (`joined_arm`): its ``maps`` are composed with the
            preset's, or the preset takes the place of its own on real and added ``images``, or on
            those that its ``network`` is trained with; or not at all.
        control: the arm that is the same training without what this one adds (a model, the
            symmetry of a network), for the report.
        quick: `prepare` trains nothing and looks at no image, so that a study can try it at once.
        whole_images: it cannot be trained on patches.
    """

    description: str
    prepare: Callable[[ArmInputs], ArmTraining]
    joins: Literal["", "maps", "images", "network"] = ""
    control: str = ""
    quick: bool = False
    whole_images: bool = False


def joined_arm(learned: Arm, preset: str) -> Arm:
    """A learned arm and a named augmentation preset.

    Learned deformations are composed with the preset's and images resampled once; where the arm
    adds images, real and added ones get the preset in place of the arm's own, and so do those that
    another network is trained with. Of a network the control is its own control with the preset.
    """

    def prepare(inputs: ArmInputs) -> ArmTraining:
        config = configuration.from_json(configuration.to_json(inputs.config))
        with config.unlocked():
            config.augment.preset = preset
        made = learned.prepare(dataclasses.replace(inputs, config=config, joined=preset))
        # Stages in the network (moment exchange) and soft labels follow the preset's name.
        changes = {**made.changes, "augment.preset": preset}
        return dataclasses.replace(made, changes=changes)

    place = "and the preset" if learned.joins == "maps" else "its preset is"
    control = preset
    if learned.joins == "network":
        control = f"{learned.control}+{preset}" if learned.control else ""
    return dataclasses.replace(
        learned,
        description=f"{learned.description}; {place} {preset}",
        prepare=prepare,
        joins="",
        control=control,
    )
