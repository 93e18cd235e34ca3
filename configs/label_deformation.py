"""beta-VAE of label maps for new anatomy (Amirrajab et al., MELBA 2023:010).

    bin/reproduce label_deformation
    bin/train --config configs/label_deformation.py:cpu --workdir work/label_vae
    bin/train --config configs/label_deformation.py:cpu,arm=pca --workdir work/label_pca
    bin/sample --workdir work/label_vae --method pathology --count 6 --output work/hearts

Sizes:
    cpu  slices 64^2 of 120 phantom stacks, batch 32, 2000 steps; about 8 minutes on one core,
         Dice of held-out slices 0.95 or more
    gpu  slices 128^2, the published network and schedule: batch 20, 400 epochs
    pod  the same at batch 320

Arms (beta is that of 128^2 pixels and is scaled by their number):
    vae       beta 15, 16 latent dimensions
    z32       beta 10, 32 dimensions
    beta1, beta5, beta50
    ae        autoencoder: beta 0, posterior means
    resnet    residual blocks
    capacity  beta 15 on |KL - C|, C rising to 25 nats
    pca       principal components of signed distance maps, 16 of them
    volume    3D VAE of stacks equalised to 32 slices

Losses (`loss=`): ce, dice, ce+dice, bce, mse, l1.

Data: phantom stacks of four diseases, or with --data a folder of label maps in slices (ACDC, M&Ms;
set --config.data.spacing to the in-plane size wanted, say 1.25,1.25,10).
"""

import math

from ml_collections import ConfigDict

from jaxmedgen.configuration import parse_argument

ARMS = ("vae", "z32", "beta1", "beta5", "beta50", "ae", "resnet", "capacity", "pca", "volume")
LOSSES = ("ce", "dice", "ce+dice", "bce", "mse", "l1")
_BETAS = {"z32": 10.0, "beta1": 1.0, "beta5": 5.0, "beta50": 50.0, "ae": 0.0}


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, {"arm": ARMS, "loss": LOSSES})
    size, arm = chosen["size"], chosen["arm"]
    large, volume, pca = size != "cpu", arm == "volume", arm == "pca"
    shape = (128, 128) if large else (64, 64)
    # Steps that show every slice once, about: 120 hearts of ten slices, of large sizes at both
    # phases.
    epoch = {"cpu": 37, "gpu": 120, "pod": 8}[size]
    scale = math.prod(shape) / 128**2 * (32 if volume else 1)
    steps = {"cpu": 2000, "gpu": 400 * epoch, "pod": 400 * epoch}[size]
    batch = {"cpu": 32, "gpu": 20, "pod": 320}[size]
    if volume:
        steps, batch = {"cpu": (400, 4), "gpu": (20000, 8), "pod": (20000, 64)}[size]
    if pca:
        steps, batch = 1, 1024
    features = (64, 128, 256, 512) if large else (16, 32, 64, 128)
    if volume:
        features = (32, 64, 128, 256) if large else (8, 16, 32, 64)
    net = {"latents": 32 if arm in ("z32", "volume") else 16}
    if not pca:
        net |= {
            "features": features,
            "neck": 256 if large else 128,
            "kind": "residual" if arm == "resnet" else "conv",
            "dtype": "bfloat16" if large else "float32",
        }
    return ConfigDict(
        {
            "system": "jaxmedgen.systems.shape." + ("distance_pca" if pca else "label_vae"),
            "steps": steps,
            "batch_size": batch,
            "seed": 1220 if large else 0,
            "accumulate": 1,
            "log_every": 1 if pca else 50,
            "show_every": 0 if pca else 500,
            "eval_every": 0,
            "checkpoint_every": 200,
            "profile_at": -1,
            "data": {
                "kind": "short_axis_stack",  # or folder
                "folder": "",
                "label_map": "",
                "cache": "",
                "target_of": (),
                "target_names": (),
                "train_contrast": "",
                "test_contrast": "t2",
                "shape": shape,  # of a slice; stacks are cropped around the heart
                "spacing": "native",
                "crop_to_nonzero": False,
                "normalization": "none",
                "stacks": "volumes" if volume else "slices",
                "stack_slices": 32,
                "stack_axis": -1,  # across the slices; -1: the axis of the largest spacing
                "groups": "",  # CSV of case,group (a disease), for folders; or JSON
                "phase_of": "",  # likewise ED or ES, or a pattern; by default names tell
                "vendors": (),  # of the phantoms; with some, stacks have images too
                "diseases": ("NOR", "DCM", "HCM", "RV"),
                "phases": ("ED", "ES") if large else ("ED",),
                "train": 120,
                "validation": 0,
                "test": 40,
                "seed": 0,
            },
            "patch_size": (),
            "foreground_probability": 0.33,
            "net": net,
            "criterion": {
                "beta": _BETAS.get(arm, 15.0) * scale,
                "reconstruction": chosen["loss"],
                "capacity": 25.0 if arm == "capacity" else -1.0,  # nats; below 0: none
                "capacity_steps": steps // 2,
                "stochastic": arm != "ae",
            },
            "augment": {"quarter_turns": 0.7 if large else 0.0},
            "optimizer": {
                "kind": "adam",
                "learning_rate": 2e-5 if large else 1e-3,
                "schedule": "exponential" if large else "cosine",
                "decay": 0.96,
                "decay_every": epoch,
                "decay_from": 150 * epoch,
                "warmup": 0,
                "clip_norm": 0.0,
                "ema_decay": 0.0,
            },
            "parallel": {"backend": "jit", "data": -1, "space": 1},
        }
    )
