"""Arms that first train a model of the run's labelled subjects: deformations, or added images."""

from typing import Any

from jaxmedgen.augment.latent import LatentMode
from jaxmedgen.data.sources import ArraySource
from jaxmedgen.experiments import spade_arm as spade
from jaxmedgen.experiments.arm import Arm, ArmInputs, ArmTraining
from jaxmedgen.experiments.genseg_arm import train_genseg
from jaxmedgen.experiments.it_vae_arm import train_it_vae
from jaxmedgen.experiments.model_training import model_seconds
from jaxmedgen.experiments.paddit_arm import Kind, train_paddit
from jaxmedgen.experiments.repainted_labels import repainted_subjects
from jaxmedgen.experiments.rhvae_arm import synthetic_subjects


def latent_arm(
    description: str, mode: LatentMode, *, redrawn: bool = False, **settings: Any
) -> Arm:
    """An arm of deformations from an IT-VAE of the run's labelled subjects.

    Further settings are those of `augment.latent.LatentAugmentation`.
    """

    def prepare(inputs: ArmInputs) -> ArmTraining:
        folder = inputs.shared / "it_vae"
        made = train_it_vae(
            *inputs.at(folder),
            mode,
            redrawn=redrawn,
            joined=inputs.joined,
            unlabelled=inputs.unlabelled,
            progress=inputs.progress,
            **settings,
        )
        changes = {"augment.preset": "none", "augment.synthesis_probability": 0.0}
        return ArmTraining(changes, made, model_seconds(folder))

    return Arm(description, prepare, joins="maps", control="none", whole_images=True)


def paddit_arm(description: str, kind: Kind) -> Arm:
    """An arm of deformations by PADDIT's model of the run's labelled subjects."""

    def prepare(inputs: ArmInputs) -> ArmTraining:
        others, progress = inputs.unlabelled, inputs.progress
        given = inputs.at(inputs.shared)
        made, *told = train_paddit(*given, kind, unlabelled=others, progress=progress)
        return ArmTraining({"augment.synthesis_probability": 0.0}, made, *told)

    return Arm(description, prepare, joins="maps", control="none", whole_images=True)


def genseg_arm(inputs: ArmInputs) -> ArmTraining:
    """Findings added by a GenSeg of the run's labelled subjects."""
    given, progress = inputs.at(inputs.workdir), inputs.progress
    made, seconds, warnings = train_genseg(*given, progress=progress)
    settings = {"augment.preset": "none", "augment.synthesis_probability": 0.0}
    return ArmTraining(settings, made, seconds, warnings)


def label_vae_arm(inputs: ArmInputs) -> ArmTraining:
    """New label maps of a VAE of the run's labelled subjects, on their own images repainted."""
    folder = inputs.shared / "label_vae"
    made = repainted_subjects(*inputs.at(folder), progress=inputs.progress)
    return _with_images(inputs, made, model_seconds(folder))


def spade_arm(description: str, *, new_labels: bool = False, volumetric: bool = False) -> Arm:
    """An arm that adds images of a SPADE generator of the run's labelled subjects."""

    def prepare(inputs: ArmInputs) -> ArmTraining:
        progress = inputs.progress
        given = inputs.at(inputs.shared / ("spade-3d" if volumetric else "spade"))
        model = spade.train_generator(*given, volumetric=volumetric, progress=progress)
        labels, seconds = None, model.seconds
        if new_labels:
            folder = inputs.shared / "label_vae"
            labels = spade.label_draws(*inputs.at(folder), progress=progress)
            seconds += model_seconds(folder)
        made = spade.synthetic_images(model, inputs.labelled, inputs.seed, labels)
        return _with_images(inputs, made, seconds, model.warnings)

    return Arm(description, prepare, joins="images", control="light")


def rhvae_arm(inputs: ArmInputs) -> ArmTraining:
    """Subjects drawn near the run's labelled ones, in a learned Riemannian latent space."""
    folder = inputs.shared / "rhvae"
    made = synthetic_subjects(*inputs.at(folder), progress=inputs.progress)
    return _with_images(inputs, made, model_seconds(folder))


def _with_images(
    inputs: ArmInputs, made: ArraySource, seconds: float, warnings: tuple[str, ...] = ()
) -> ArmTraining:
    """Real subjects and made ones, with the preset that arms of images have unless joined."""
    settings = {"augment.preset": "light", "augment.synthesis_probability": 0.0}
    shown = spade.with_synthetic(inputs.labelled, made)
    return ArmTraining(settings, None, seconds, warnings, shown)
