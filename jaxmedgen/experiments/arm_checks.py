"""Whether the arms of a study fit its data and settings, told before hours of other arms."""

import pathlib

from jaxmedgen import configuration
from jaxmedgen.experiments.arm import ArmInputs
from jaxmedgen.experiments.study import Study
from jaxmedgen.systems.base import build_system

_NOWHERE = pathlib.Path("unused")


def check_arms(study: Study) -> None:
    """Builds the network of every arm whose preparation trains nothing, and reads settings.

    Raises:
        ValueError: an arm is for whole images and the study is on patches, or its network does not
            fit (a group of turns on unequal voxels, say); the arm is named.
    """
    for name, arm in study.arms.items():
        config = configuration.from_json(configuration.to_json(study.config))
        if arm.whole_images and tuple(config.patch_size):
            raise ValueError(
                f"arm '{name}' takes whole images, not patches of {tuple(config.patch_size)}: set "
                "--config.patch_size='()', or leave it out"
            )
        if not arm.quick:
            continue
        try:
            training = arm.prepare(
                ArmInputs(config, study.sources.train, _NOWHERE, 0, _NOWHERE, None)
            )
            training.write_into(config)
            build_system(config, study.sources.info)
        except ValueError as error:
            raise ValueError(f"arm '{name}': {error}") from error
