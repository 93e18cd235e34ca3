"""A small residual classifier whose features measure distances between sets of images.

    bin/train --config configs/feature_extractor.py:cpu --workdir work/extractor
    bin/evaluate --real REAL --synthetic SYNTHETIC --extractor work/extractor --workdir work/realism

It learns to tell vendors of short-axis slices apart, 300 steps in half a minute on one core; the
training accuracy nears 1. ``bin/evaluate --extractor classifier`` trains the same on a folder's own
groups.

Sizes:
    cpu  slices 64^2, channels 16-32-64-128
    gpu  slices 128^2, the same channels, two blocks a stage, batch 64
    pod  the same at batch 256
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config, parse_argument


def get_config(argument: str = "") -> ConfigDict:
    size = parse_argument(argument, {})["size"]
    large = size != "cpu"
    config = load_config(f"unet:{size},arm=light").unlock()
    config.update(
        system="jaxmedgen.systems.representation.image_classifier",
        steps=3000 if large else 300,
        batch_size={"cpu": 16, "gpu": 64, "pod": 256}[size],
        eval_every=0,
        checkpoint_every=500 if large else 150,
        patch_size=(),
    )
    config.parallel.space = 1
    config.optimizer.clip_norm = 1.0
    config.net = ConfigDict({"features": (16, 32, 64, 128), "blocks": 2 if large else 1})
    config.data.update(
        kind="short_axis",
        shape=(128, 128) if large else (64, 64),
        train=2000 if large else 200,
        validation=0,
        test=0,
    )
    config.data.vendors = ("A", "B", "C", "D")
    config.data.heart_classes = 4
    config.target = "vendor"  # key of the record that holds the class
    config.targets = ("A", "B", "C", "D")
    # Flips and small turns only: brightness and contrast tell vendors apart.
    config.augment.preset = "flip+affine"
    return config
