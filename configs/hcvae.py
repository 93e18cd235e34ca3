"""HCVAE: a fetal skull in 3D from 2D ultrasound planes (Cerrolaza et al., MICCAI 2018).

    bin/reproduce hcvae
    bin/train --config configs/hcvae.py:cpu --workdir work/hcvae
    bin/train --config configs/hcvae.py:cpu,arm=cvae,views=axial --workdir work/cvae_axial
    bin/evaluate --workdir work/hcvae
    bin/predict --workdir work/hcvae --input planes/ --output work/skulls
    bin/train --config configs/hcvae.py:gpu --data FOLDER --workdir work/skulls

Sizes:
    cpu  volumes 32^3 of 200 phantoms, batch 8, 1000 steps
    gpu  volumes 96^3, batch 16, 1000 epochs, augmentation, bfloat16 convolutions
    pod  the same at batch 64

Arms:
    hcvae             a latent level a view, axial -> sagittal -> coronal, nested view dropout
    hcvae-reversed    levels in the opposite order, views dropped in the same
    hcvae-deep        a decoder at every level in training, weight 0.25
    hcvae-no-dropout  all views in training
    cvae              one level, N(0, I), a missing view is a zeroed image it was never trained with
    cvae-dropout      one level with a learned prior, null vectors and view dropout: no hierarchy
    cvae-learned      cvae with a learned prior
    tl-net            autoencoder and regressor of its embedding, three stages
    gan               conditional 3D GAN
    pca               principal components and ridge regression
    mean              the mean shape

Views (`views=`): all, axial, axial+sagittal: the model is trained with these alone.
View dropout of the arms that have it (`dropout=`): nested (the first 1, 2 or 3 views) or any.
Losses of the VAEs (`loss=`): bce (sum over voxels), dice.
Augmentation (`augment=`): default, none, affine.

Data: phantoms, or with --data a folder with planes/NAME_axial.nii.gz, NAME_sagittal.nii.gz,
NAME_coronal.nii.gz and labels/NAME.nii.gz; cases of one fetus (sub-ID_...) stay together in
data.folds folds, of which data.fold is the test set.
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import parse_argument

ARMS = (
    *("hcvae", "hcvae-reversed", "hcvae-deep", "hcvae-no-dropout", "cvae", "cvae-dropout"),
    *("cvae-learned", "tl-net", "gan", "pca", "mean"),
)
OPTIONS = {
    "arm": ARMS,
    "views": ("all", "axial", "axial+sagittal"),
    "dropout": ("default", "nested", "any"),
    "loss": ("bce", "dice"),
    "augment": ("default", "none", "affine"),
}
_VIEWS = {"all": (0, 1, 2), "axial": (0,), "axial+sagittal": (0, 1)}
_KINDS = {"tl-net": "tl_net", "gan": "gan", "pca": "linear", "mean": "linear"}
_DROPPED = ("hcvae", "hcvae-reversed", "hcvae-deep", "cvae-dropout")
_PRIORS = ("cvae-dropout", "cvae-learned")


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, OPTIONS)
    size, arm, views = chosen["size"], chosen["arm"], _VIEWS[chosen["views"]]
    large, linear = size != "cpu", arm in ("pca", "mean")
    hierarchical = arm.startswith("hcvae")
    if arm == "hcvae-reversed":
        views = views[::-1]
    level = 24 if large else 8
    count = 200
    batch = {"cpu": 8, "gpu": 16, "pod": 64}[size]
    steps = 1000 if not large else 1000 * count // batch
    if linear:
        steps, batch = 1, count
    dropout = "none"
    if arm in _DROPPED:
        dropout = "nested" if chosen["dropout"] == "default" else chosen["dropout"]
    moved = chosen["augment"] == "affine" or (chosen["augment"] == "default" and large)
    voxels = 96**3 if large else 32**3
    return ConfigDict(
        {
            "system": "jaxmedgen.systems.shape.hcvae",
            "steps": steps,
            "batch_size": batch,
            "seed": 0,
            "accumulate": 1,
            "log_every": 1 if linear else 20,
            "show_every": 0 if linear else steps // 2,
            "eval_every": 0,
            "checkpoint_every": 200 if not large else 1000,
            "profile_at": -1,
            "data": {
                "kind": "fetal_skull",  # or folder
                "folder": "",
                "planes": True,
                "label_map": "",
                "cache": "",
                "target_of": (),
                "target_names": (),
                "train_contrast": "",
                "test_contrast": "t2",
                "shape": (96, 96, 96) if large else (32, 32, 32),  # over 150 mm an axis
                "spacing": "native",
                "crop_to_nonzero": False,
                "normalization": "none",
                "shell": False,  # the bone instead of the solid head, phantoms only
                "shadow": 0.0,  # probability of an acoustic shadow, phantoms only
                "scans": 1,  # volumes a fetus, phantoms only
                "folds": 0,  # cross-validation by fetus; 0: test phantoms of their own
                "fold": 0,
                "train": count,
                "validation": 0,
                "test": 48,
                "seed": 0,
            },
            "patch_size": (),
            "foreground_probability": 0.0,
            "model": {
                "kind": _KINDS.get(arm, "vae"),
                "views": views,  # in the order of the levels
                "hierarchical": hierarchical,
                "latents": (level,) * len(views) if hierarchical else (64 if large else 24,),
                "prior": "learned" if hierarchical or arm in _PRIORS else "standard",
                "missing": "null" if hierarchical or arm == "cvae-dropout" else "zero",
                "view_dropout": dropout,
                "deep": arm == "hcvae-deep",
                "components": 0 if arm == "mean" else 32,
                "pixels": 8,  # an axis of the planes that the regression sees
            },
            "net": {
                "features": (16, 32, 64, 128, 128) if large else (8, 16, 32, 32),
                "embedding": 128 if large else 64,
                "volume_features": 256 if large else 128,
                "decoder": (128, 128, 64, 32, 16, 8) if large else (32, 32, 16),
                "hidden": 256 if large else 128,
                "head": "conv" if large else "phases",
                "prior_hidden": 128,
                "judge": (16, 32, 64, 128) if large else (8, 16, 32, 32),
                "norm": "batch" if batch >= 8 else "group",
                "dtype": "bfloat16" if large else "float32",
            },
            "criterion": {
                # The Dice loss is a share, the cross-entropy a sum of nats over voxels.
                "weight": 1.0 if chosen["loss"] == "bce" else 100.0 / voxels,
                "warm_up": 3 * steps // 10,
                "reconstruction": chosen["loss"],
                "partial_weight": 0.25,
                "stages": (steps // 3, 2 * steps // 3),  # of TL-Net
                "embedding_weight": 1 / 1500,
                "gan": "jsgan",
                "reconstruction_weight": 100.0,
            },
            "augment": {
                "scale": (0.9, 1.1) if moved else (1.0, 1.0),
                "rotation": 10.0 if moved else 0.0,
                "translation": 7 / 96 if moved else 0.0,
            },
            "optimizer": {
                "kind": "adam",
                "learning_rate": 1e-3,
                "b1": 0.9,
                "b2": 0.995,
                "schedule": "constant",
                "warmup": 0,
                "clip_norm": 0.0,
                "ema_decay": 0.0,
            },
            "parallel": {"backend": "jit", "data": -1, "space": 1},
        }
    )
