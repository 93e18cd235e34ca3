"""Ladder VAE of shapes with a classifier on its two-dimensional top (Biffi et al., TMI 2020).

    bin/reproduce lvae
    bin/train --config configs/lvae.py:cpu --workdir work/lvae
    bin/train --config configs/lvae.py:cpu,data=hippocampus --workdir work/lvae_hippocampus
    bin/evaluate --workdir work/lvae
    bin/sample --workdir work/lvae --count 16 --output work/hearts
    bin/sample --workdir work/lvae --condition HCM --count 16 --output work/diseased

Sizes:
    cpu  ventricles 32^3, ED and ES (240), channels 8-16-32, z (32, 16, 2), batch 8, 1000 steps;
         some minutes on one core, expected accuracy 0.9
    gpu  80^3, the published network, weights and schedule: z (64, 32, 2), batch 16, 600,000 steps
    pod  the same at batch 128

Arms:
    lvae        the ladder with its classifier
    lvae-free   the ladder without a classifier
    plain       a hierarchy without the ladder's merge: q(z_l | x, z_l+1) of concatenated features
    no-warm-up  weights of all terms are full from the first step
    levels1, levels2   fewer levels: (2), (32, 2)
    vae64, vae2        one level of 64 or 2 dimensions, with classifier
    vae2-free          one level of 2 dimensions, no classifier

`bin/reproduce lvae` compares them with principal components, linear discriminants of 20 of them
and clinical indices.

Data: ventricle or hippocampus phantoms, or a folder of label maps CASE_ED.nii.gz, CASE_ES.nii.gz
with the table classes.csv (case,class):

    bin/train --config configs/lvae.py:cpu,data=folder --config.data.folder=FOLDER --workdir W

Settings beside those of the arms: augment.preset=shapes (the list of the published program, where
it is off), net.merge=compat_ref (its merge, whose variance is used as a deviation), and patience:
validations, every eval_every steps, without a smaller loss after which a run ends.
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import parse_argument

ARMS = (
    "lvae",
    "lvae-free",
    "plain",
    "no-warm-up",
    "levels1",
    "levels2",
    "vae64",
    "vae2",
    "vae2-free",
)
DATA = ("left_ventricle", "hippocampus", "folder")
TARGETS = {
    "left_ventricle": ("healthy", "HCM"),
    "hippocampus": ("healthy", "AD"),
    "folder": ("healthy", "HCM"),
}


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, {"arm": ARMS, "data": DATA})
    size, arm = chosen["size"], chosen["arm"]
    large = size != "cpu"
    latents = (64, 32, 2) if large else (32, 16, 2)
    # Short trainings: the published weights are for several hundred thousand steps.
    divergence = (2.0, 0.1, 0.01) if large else (0.002, 0.001, 0.001)
    hidden = (96, 48, 24)
    if arm in ("levels2", "levels1", "vae64", "vae2", "vae2-free"):
        latents = {"levels2": (latents[0], 2), "vae64": (64,)}.get(arm, (2,))
        hidden = (96, 24) if arm == "levels2" else (96,)
        divergence = (divergence[0], divergence[2]) if arm == "levels2" else divergence[:1]
    steps = 600_000 if large else 1000
    folder = chosen["data"] == "folder"
    warm_up = 128_000 if large else 2 * steps // 5
    return ConfigDict(
        {
            "system": "jaxmedgen.systems.shape.lvae",
            "steps": steps,
            "batch_size": {"cpu": 8, "gpu": 16, "pod": 128}[size],
            "seed": 0,
            "accumulate": 1,
            "log_every": 20,
            "eval_every": 4000 if large else 0,
            "patience": 10 if large else 0,  # validations without a better one end the run
            "checkpoint_every": 200,
            "profile_at": -1,
            "targets": TARGETS[chosen["data"]],
            "data": {
                "kind": chosen["data"],
                "folder": "",
                "label_map": "",
                "cache": "",
                "target_of": (),
                "target_names": TARGETS["folder"] if folder else (),
                "train_contrast": "",
                "test_contrast": "t2",
                "shape": (80, 80, 80) if large else (32, 32, 32),
                "spacing": "native",
                "template": "",
                "crop_to_nonzero": False,
                "normalization": "none",
                "train": 0 if folder else 537 if large else 240,
                "validation": 150 if large else 0,
                "test": 200 if large else 80,
                "seed": 0,
            },
            "augment": {"preset": "none"},
            "patch_size": (),
            "foreground_probability": 0.0,
            "net": {
                "latents": latents,  # lowest level first, as the weights below
                "hidden": hidden,
                "top": 12 if len(latents) > 1 else 0,
                "merge": "concatenate" if arm == "plain" else "precision",
                "features": (8, 16, 32, 64) if large else (8, 16, 32),
                "squeeze": 2 if large else 8,
                "upsampling": "transposed" if large else "shuffle",
                "momentum": 0.99 if large else 0.9,
                "deviation": 0.02 if large else 0.0,
                "dtype": "bfloat16" if large else "float32",
                "predictor": 64,
            },
            "criterion": {
                "divergence": divergence,
                "classification": 0.0 if arm in ("lvae-free", "vae2-free") else 0.1,
                "ramp": 0.2 if large else 0.1,
                "ramp_steps": 0 if arm == "no-warm-up" else warm_up,
                "reconstruction": True,
                "stochastic": True,
                "joint": True,
                "predict_from": "sample",
                # Of the voxels' cross-entropy: in short trainings Dice alone may fill ventricles.
                "voxels": 0.0 if large else 0.5,
            },
            "optimizer": {
                "kind": "adam",
                "learning_rate": 1e-4 if large else 2e-3,
                "schedule": "steps" if large else "cosine",
                "boundaries": (80_000, 100_000),
                "factors": (0.5, 0.2),
                "warmup": 0,
                "share": 1.0,  # of the steps that the model of shapes is trained
                "clip_norm": 0.0 if large else 1.0,
                "ema_decay": 0.0,
            },
            "parallel": {"backend": "jit", "data": -1, "space": 1},
        }
    )
