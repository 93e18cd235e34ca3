"""Cardiac MR slices from label maps: SPADE with control of style (Amirrajab et al. 2022, 2023).

    bin/reproduce cardiac_synthesis
    bin/train --config configs/cardiac_synthesis.py:cpu --workdir work/cardiac
    bin/train --config configs/cardiac_synthesis.py:cpu,arm=pix2pixhd --workdir work/baseline
    bin/train --config configs/cardiac_synthesis.py:cpu,arm=label,vendors=B --workdir work/vendor_b
    bin/train --config configs/cardiac_synthesis.py:gpu,data=volumes --data DATA --workdir work/m
    bin/sample --workdir work/cardiac --count 100 --layout nnunet --output work/Dataset900_Synthetic

Sizes:
    cpu  64^2, width 8, batch 8, 1500 steps
    gpu  128^2, width 32, batch 32, 20000 steps, bf16
    pod  256^2, width 64, batch 64, 60000 steps, bf16

Data (`data=`): phantoms (short-axis slices of vendors A and B), stacks (whole hearts of four
diseases in slices), volumes (with --data; cut into slices, after cropping or padding to 16 slices
of the size's shape). `arm=vendor` of a folder needs --config.data.vendor_of and
--config.data.vendors.

Arms:
    vae        style from an encoder of images, or drawn (VAE-GAN)
    label      nothing but the label map
    noise      style drawn
    style      style from a deterministic network of images
    vendor     style drawn, plus a learned vector of the vendor
    pix2pixhd  label map at the input only; as many parameters as `label`
    unet       the same in a U-Net; fewer parameters (cpu: a quarter, gpu: a sixth, pod: 9 in 10)

Vendors (`vendors=`): AB, or one alone: one generator a vendor. Modulation (`modulation=`): spade,
clade, clade_distance. Ablations (`ablation=`): no_feature_matching, no_perceptual, single_scale,
least_squares, instance_norm. Classes (`classes=`): 4 (the heart), 8 (organs too).
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import parse_argument

OPTIONS = {
    "arm": ("vae", "label", "noise", "style", "vendor", "pix2pixhd", "unet"),
    "data": ("phantoms", "stacks", "volumes"),
    "vendors": ("AB", "A", "B", "C", "D", "ABC"),
    "classes": ("4", "8"),
    "modulation": ("spade", "clade", "clade_distance"),
    "ablation": (
        "none",
        "no_feature_matching",
        "no_perceptual",
        "single_scale",
        "least_squares",
        "instance_norm",
    ),
}
STYLES = {"vae": "vae", "noise": "noise", "vendor": "noise", "style": "net"}


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, OPTIONS)
    size, arm, ablation = chosen["size"], chosen["arm"], chosen["ablation"]
    volumes, stacks = (chosen["data"] == kind for kind in ("volumes", "stacks"))
    side = {"cpu": 64, "gpu": 128, "pod": 256}[size]
    width = {"cpu": 8, "gpu": 32, "pod": 64}[size]
    levels = {"cpu": 3, "gpu": 4, "pod": 5}[size]
    batch = {"cpu": 8, "gpu": 32, "pod": 64}[size]
    generator = arm if arm in ("pix2pixhd", "unet") else "spade"
    latent = {"cpu": 32, "gpu": 256, "pod": 256}[size]
    if arm == "style":
        latent = 2 * latent
    blocks = {"cpu": 1, "gpu": 2, "pod": 1}[size]
    if generator == "pix2pixhd":  # as many parameters as SPADE has
        width, blocks = {"cpu": (9, 2), "gpu": (22, 9), "pod": (20, 9)}[size]
    return ConfigDict(
        {
            "system": "jaxmedgen.systems.synthesis.label_to_image",
            "steps": {"cpu": 1500, "gpu": 20000, "pod": 60000}[size],
            "batch_size": batch,
            "seed": 0,
            "accumulate": 1,
            "log_every": 20,
            "eval_every": 0,
            "checkpoint_every": 250,
            "show_every": 250,
            "profile_at": -1,
            "ignore_label": -1,
            "data": {
                "kind": "short_axis_stack" if chosen["data"] == "stacks" else "short_axis",
                "vendors": tuple(chosen["vendors"]),
                "vendor_of": "",  # of a folder's cases: CSV or JSON, or pattern of their names
                "test_vendors": (),
                "heart_classes": int(chosen["classes"]),
                "as_slices": volumes or stacks,  # volumes are cut across their thickest axis
                "slice_axis": 2,  # that axis, where `shape` is that of volumes
                "empty_slices": not volumes,  # whether slices without foreground are kept
                "folder": "",
                "label_map": "",
                "cache": "",
                "target_of": (),
                "target_names": (),
                "train_contrast": "",
                "test_contrast": "t2",
                "shape": (side, side, 16) if volumes else (side, side),
                "spacing": "native",
                "crop_to_nonzero": False,
                "normalization": "none",
                "train": 0 if volumes else 60 if stacks else 600,  # 0: all of a folder
                "validation": 0,
                "test": 0 if volumes else 20 if stacks else 200,
                "seed": 0,
            },
            "patch_size": (),
            "foreground_probability": 0.33,
            "intensity": "volume"
            if volumes or stacks
            else "slice",  # percentiles to [-1, 1]: slice | volume | none
            "dtype": "float32" if size == "cpu" else "bfloat16",
            "model": {
                "generator": generator,  # spade | pix2pixhd | unet
                "style": STYLES.get(arm, "none"),  # none | noise | vae | net
                "latent": latent,
                "vendors": arm == "vendor",
                "width": width,
                "levels": levels,
                "blocks": blocks,
                "style_width": {"cpu": 8, "gpu": 32, "pod": 32}[size],
                "hidden": {"cpu": 16, "gpu": 128, "pod": 128}[size],
                "modulation": chosen["modulation"],
                "norm": "instance" if ablation == "instance_norm" else "batch",
                "features": tuple(width * 2**i for i in range(levels + 1)),  # of unet
                "init_gain": 0.02,
                "remat": size == "pod",
            },
            "discriminator": {
                "features": (8, 16, 32) if size == "cpu" else (64, 128, 256, 512),
                "scales": 1 if ablation == "single_scale" else 2,
            },
            "features": {
                "kind": "none" if ablation == "no_perceptual" else "segmenter",
                "features": (8, 16, 32) if size == "cpu" else (16, 32, 64, 128, 256),
                "steps": {"cpu": 200, "gpu": 1000, "pod": 1000}[size],
                "learning_rate": 3e-3 if size == "cpu" else 1e-3,
                "file": "",  # of VGG-19's weights, for kind=file
            },
            "loss": {
                "gan": "lsgan" if ablation == "least_squares" else "hinge",
                "feature_matching": 0.0 if ablation == "no_feature_matching" else 10.0,
                "perceptual": 10.0,
                "kl": 0.05,  # times the batch, over which the reference sums
                "l1": 100.0,
            },
            "optimizer": {
                "kind": "adam",
                # The base rate: half of it for the generator, double for the discriminator.
                "learning_rate": 1e-3 if size == "cpu" else 2e-4,
                "two_rates": True,
                "schedule": "constant",
                "warmup": 0,
                "clip_norm": 0.0,
                "b1": 0.0,
                "b2": 0.9,
                "ema_decay": 0.99 if size == "cpu" else 0.999,
            },
            "augment": {
                "quarter_turns": 0.7,  # share of the images that are turned
                "preset": "none",  # augment/presets.py
                "background": None,  # value around the body, or min (of the scaled intensities)
                "swap_labels": None,  # pairs that a flip exchanges; None: left and right in names
            },
            "parallel": {"backend": "jit", "data": -1, "space": 1},
        }
    )
