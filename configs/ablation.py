"""The segmenter of an augmentation study: which arm helps, and by how much?

    bin/ablate --data FOLDER --arms none,light,classic,diffeomorphic,synthesis --labelled 4,16 \
        --seeds 3 --workdir work/study
    bin/ablate --config configs/ablation.py:gpu --workdir work/study   # 128^3 voxels

Sizes:
    cpu  volumes brought into 40^3 voxels, 8-16-32 features, 400 steps a run
    gpu  128^3 voxels, 32-64-128-256 features, bf16, 5000 steps a run
    pod  the same at batch 32

The models of the generative arms have step counts of their own that suit a processor; give them
more with --config.model_steps=20000, and --config.paddit.thinning=20 for those of paddit*.

All arms get the same number of optimiser steps and the same subjects; what is compared is the
training images only. Without --data the brains are phantoms whose test scanner differs from the
training scanner.
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config, parse_argument


def get_config(argument: str = "") -> ConfigDict:
    size = parse_argument(argument, {})["size"]
    config = load_config(f"unet:{size},arm=none").unlock()
    large = size != "cpu"
    config.update(
        steps=5000 if large else 400,
        eval_every=500 if large else 100,
        checkpoint_every=500 if large else 100,
        log_every=50 if large else 20,
        batch_size={"cpu": 2, "gpu": 4, "pod": 32}[size],
        patch_size=(),
        model_steps=0,  # of what arms such as itvae-naive or spade train; 0: the arm's own
        measure_fit=False,  # also score training subjects (the gap to test) and calibration (ECE)
        # Whether the models of itvae-* and paddit* also see the images of the run's other training
        # subjects; the labels of those stay hidden.
        model_unlabelled=False,
    )
    config.paddit = ConfigDict(  # of the model of paddit*, experiments/paddit_arm.py; 0: its own
        {"iterations": 0, "chains": 0, "draws": 0, "thinning": 0}
    )
    config.net.deep_supervision = False
    config.data.update(
        train=16,  # the pool that labelled subjects are drawn from; with --data all others
        validation=2,
        test=6,
        shape=(128, 128, 128) if large else (40, 40, 40),
        spacing="fit",
    )
    return config
