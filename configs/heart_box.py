"""A box round the left ventricle of late-enhancement slices: the first stage of the scar cascade.

    bin/train --config configs/heart_box.py:cpu --workdir work/box
    bin/ablate --experiment scar --generator oracle --workdir work/scar   # the whole cascade

300 steps in half a minute on one core; the mean error of centre and size falls below 0.03 of the
image.

Sizes:
    cpu  slices 64^2, channels 16-32-64-128
    gpu  slices 128^2, batch 64
    pod  the same at batch 256
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config


def get_config(argument: str = "") -> ConfigDict:
    config = load_config(f"synthetic_data_evaluation:{argument or 'cpu'},experiment=scar").unlock()
    config.update(
        system="jaxmedgen.systems.detection.box_regressor",
        steps=300 if config.steps < 1000 else config.steps,
        eval_every=0,
    )
    config.net = ConfigDict({"features": (16, 32, 64, 128)})
    config.augment.preset = "flip+affine"
    config.inside = (1, 2, 8, 9)  # left ventricle, myocardium, scar and its dark core
    return config
