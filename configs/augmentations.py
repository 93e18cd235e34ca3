"""The augmentation suite on images with lesions: train on narrow variation, test on wide.

    bin/reproduce augmentations
    bin/reproduce augmentations_volumes
    bin/train --config configs/augmentations.py:cpu,arm=nnunet3d --workdir work/lesions
    bin/ablate --config configs/augmentations.py --arms none,diffeo,gamma \
        --labelled 6 --seeds 2 --workdir work/study

Six training images of 64^2, a U-Net of 8 base features, 400 steps. Tests come in three groups:
`pose` varies in pose alone, `intensity` in gamma and bias field, `both` in all of it.

Sizes:
    cpu  64^2, as above; half a minute a run on 2 cores
    gpu  96^3, 24 training images, 32 base features, bf16, 4000 steps
    pod  the same at batch 64

Arms: every name of `jaxmedgen/augment/presets.py`; names joined by + go to
--config.augment.preset.
"""

from ml_collections import ConfigDict

from jaxmedgen.augment.presets import NAMES
from jaxmedgen.configuration import load_config, parse_argument

ARMS = ("none", *(name for name in NAMES if name != "none"))


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, {"arm": ARMS})
    size = chosen["size"]
    config = load_config(f"unet:{size},arm=none").unlock()
    large = size != "cpu"
    config.update(
        steps=4000 if large else 400,
        eval_every=500 if large else 100,
        checkpoint_every=500 if large else 100,
        batch_size={"cpu": 6, "gpu": 4, "pod": 64}[size],
        patch_size=(),
        # Of bin/ablate, as in configs/ablation.py.
        model_steps=0,
        measure_fit=False,
        model_unlabelled=False,
    )
    config.paddit = load_config("ablation").paddit
    config.augment.preset = chosen["arm"]
    config.net.update(features=(32, 64, 128, 256) if large else (8, 16, 32), deep_supervision=False)
    config.data.update(
        kind="lesions",
        shape=(96, 96, 96) if large else (64, 64),
        train=64,  # the pool that labelled images are drawn from
        validation=8,
        test=40,  # of each group
    )
    config.data.train_shift = ConfigDict({"pose": 0.15, "gamma": 0.1, "bias": 0.1})
    config.data.test_shifts = ConfigDict(
        {
            "pose": {"pose": 1.0, "gamma": 0.1, "bias": 0.1},
            "intensity": {"pose": 0.15, "gamma": 1.0, "bias": 1.0},
            "both": {"pose": 1.0, "gamma": 1.0, "bias": 1.0},
        }
    )
    return config
