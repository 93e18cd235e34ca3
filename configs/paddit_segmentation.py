r"""Segmentation of brain-like images of a hidden family of shapes, six of them labelled.

    bin/reproduce paddit
    bin/ablate --config configs/paddit_segmentation.py --labelled 6 --seeds 5 \
        --arms none,affine,paddit-generic,paddit-prior,paddit,paddit-map --workdir work/paddit_arms

The study behind PADDIT's claim: every deforming arm moves half of the samples; nothing else is
augmented (--config.augment.preset=intensity adds intensity changes to the PADDIT arms).
--config.paddit.thinning=20 gives their models longer chains.

Sizes:
    cpu  64^2, 8-16-32 features, 400 steps; about a minute a run on one core, and two for PADDIT
    gpu  48^3, 16-32-64-128 features, 4000 steps
    pod  the same at batch 64
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config, parse_argument


def get_config(argument: str = "") -> ConfigDict:
    size = parse_argument(argument, {})["size"]
    large = size != "cpu"
    config = load_config(f"unet:{size},arm=none").unlock()
    config.update(
        steps=4000 if large else 400,
        eval_every=500 if large else 100,
        checkpoint_every=500 if large else 100,
        batch_size={"cpu": 6, "gpu": 4, "pod": 64}[size],
        patch_size=(),
    )
    config.paddit = load_config("ablation").paddit
    config.net.update(features=(16, 32, 64, 128) if large else (8, 16, 32), deep_supervision=False)
    config.data.update(
        kind="population",
        shape=(48, 48, 48) if large else (64, 64),
        train=30,  # the pool that labelled subjects are drawn from
        validation=8,
        test=40,
    )
    config.parallel.space = 1
    return config
