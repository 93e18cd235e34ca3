"""IT-VAE: a variational autoencoder with a spatial transformer inside (Detlefsen & Hauberg 2019).

    bin/reproduce it_vae
    bin/reproduce it_vae_augmentation
    bin/train --config configs/it_vae.py:cpu --workdir work/it_vae
    bin/train --config configs/it_vae.py:cpu,arm=vae --workdir work/vae
    bin/train --config configs/it_vae.py:cpu,data=mnist --config.data.folder=mnist/ \
        --workdir work/digits
    bin/train --config configs/it_vae.py:cpu,data=population,arm=groupwise --workdir work/template
    bin/train --config configs/it_vae.py:gpu,data=brain --workdir work/brain

Sizes:
    cpu  glyphs 28^2 (4000), batch 256, 960 steps (60 epochs); about 3 minutes on one core
    gpu  volumes 96^3, affine and velocity of 8^3 control points, d_P 32, d_A 64, batch 8
    pod  the same at 128^3, batch 64
    gpu and pod with data=mnist, dsprites or glyphs: the recipe of the reference implementation,
    60000 images, batch 1024, 200 epochs, the first half of them warm-up

Data: glyphs, mnist (28^2, Bernoulli) and dsprites (64^2, Bernoulli; both need
--config.data.folder=FOLDER), population (64^2 brain-like phantoms from a hidden family of shapes,
Gaussian), brain (phantoms or, with --data, a folder of scans; Gaussian).

Arms:
    c-vitae      z_A is inferred from the image with its perspective undone
    u-vitae      z_A and z_P are inferred from the image, independently
    vae          one latent vector, no transformer; beta-vae (4), beta-tcvae (4), dip-vae likewise
    dae          deforming autoencoder: a grid of integrated offsets, no latent conditioning
    groupwise    C-VITAE with a learned template in place of z_A: registers a group of images

Transformers (`transformer=`): affine, affine_decomposed, affinediff, rigid, cpab (border kept),
cpab_free (border moves), cpab_volume (volumes kept), svf, geodesic, affinediff+svf,
affinediff+geodesic, rigid+svf; others go to --config.model.transformer.
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import parse_argument

ARMS = (
    "c-vitae",
    "u-vitae",
    "vae",
    "beta-vae",
    "beta-tcvae",
    "dip-vae",
    "dae",
    "groupwise",
)
PLAIN = ("vae", "beta-vae", "beta-tcvae", "dip-vae")
TRANSFORMERS = (
    "default",
    "affinediff",
    "affine",
    "affine_decomposed",
    "rigid",
    "cpab",
    "cpab_free",
    "cpab_volume",
    "svf",
    "geodesic",
    "affinediff+svf",
    "affinediff+geodesic",
    "rigid+svf",
)
OPTIONS = {
    "arm": ARMS,
    "data": ("default", "glyphs", "mnist", "dsprites", "population", "brain"),
    "transformer": TRANSFORMERS,
}


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, OPTIONS)
    size, arm, kind = chosen["size"], chosen["arm"], chosen["data"]
    if kind == "default":
        kind = "glyphs" if size == "cpu" else "brain"
    digits, volumes = kind in ("glyphs", "mnist", "dsprites"), kind == "brain"
    large = size != "cpu" and volumes
    transformer = chosen["transformer"]
    if transformer == "default":
        transformer = "affinediff" if digits else "affinediff+svf"
    if arm == "dae":
        transformer = "offsets"
    if arm == "groupwise" and chosen["transformer"] == "default":
        transformer = "svf"
    if arm in PLAIN:
        transformer = ""
    perspective, appearance = (2, 2) if digits else ((32, 64) if large else (8, 8))
    if arm == "groupwise":
        appearance = 0
    if not transformer:
        appearance += perspective
    published = digits and size != "cpu"
    steps = {"cpu": 960 if digits else 1000, "gpu": 20000, "pod": 20000}[size]
    steps = 200 * 60000 // 1024 if published else steps
    warm_up = steps // 2 if digits else 3 * steps // 10
    cpu_batch = 256 if digits else 16
    shape = (28, 28) if kind in ("glyphs", "mnist") else (64, 64)
    if volumes:
        shape = {"cpu": (40, 40, 40), "gpu": (96, 96, 96), "pod": (128, 128, 128)}[size]
        cpu_batch = 4
    train = {"glyphs": 4000, "mnist": 8000, "dsprites": 8000, "population": 32, "brain": 12}
    test = {"glyphs": 1000, "mnist": 2000, "dsprites": 2000, "population": 16, "brain": 8}
    return ConfigDict(
        {
            "system": "jaxmedgen.systems.deformation.it_vae",
            "steps": steps,
            "batch_size": 1024 if published else {"cpu": cpu_batch, "gpu": 8, "pod": 64}[size],
            "seed": 0,
            "accumulate": 1,
            "log_every": 20,
            "eval_every": 0,
            "checkpoint_every": 200,
            "profile_at": -1,
            "data": {
                "kind": kind,
                "folder": "",
                "label_map": "",
                "cache": "",
                "target_of": (),
                "target_names": (),
                "train_contrast": "",
                "test_contrast": "t2",
                "shape": shape,
                "spacing": "fit",
                "crop_to_nonzero": True,
                "normalization": "zscore",
                "train": 60000 if published else train[kind],
                "validation": 0,
                "test": 10000 if published else test[kind],
                "seed": 0,
                "contrasts": ("t1",),
                "classes": "tissue",
                "lesions": (),
                "train_site": "a",
                "test_site": "a",
                **({"rotation": 20.0, "shift": 0.1} if kind == "mnist" else {}),
            },
            "patch_size": (),
            "foreground_probability": 0.33,
            "model": {
                "transformer": transformer,  # ops/deformable_transformers.py; "" for a plain VAE
                "grid": 8,  # control points an axis of svf, geodesic, offsets
                "cells": (),  # of cpab; () is 2 x 4 in 2D, 2 x 2 x 2 in 3D
                "zero_padding": False,  # warped images end at the border; they go on otherwise
                "perspective": perspective,
                "appearance": appearance,
                "conditional": arm not in ("u-vitae", "dae"),
                "likelihood": "bernoulli" if digits else "gaussian",
                "architecture": "mlp" if digits else "volume",  # mlp | conv | volume
                "features": (512, 256) if digits else (16, 32, 64, 128, 128),  # conv: three
                "stochastic": arm != "dae",
                "ramp": "+" in transformer,  # the linear part of the map is trained first
            },
            "criterion": {
                "bound": "elbo",  # elbo | iwae
                "samples": 1,
                "beta": {"beta-vae": 4.0, "dae": 0.0}.get(arm, 1.0),
                "warm_up": warm_up,
                # Of the output; z-scored images keep it, so that the residual has a known scale.
                "fixed_deviation": 0.5 if not digits else (0.02 if transformer else 1.0),
                "learned_variance": digits,
                "free_bits": 0.0 if digits else 0.05,
                "total_correlation": 3.0 if arm == "beta-tcvae" else 0.0,
                "covariance": (10.0, 10.0) if arm == "dip-vae" else (0.0, 0.0),
                "smoothness": 0.0,
                "folding": 0.0,
            },
            "optimizer": {
                "kind": "adam",
                "learning_rate": 1e-4 if large else 1e-3,
                "schedule": "constant",
                "warmup": 0,
                "clip_norm": 0.0 if digits else 1.0,
                "ema_decay": 0.0,
            },
            "parallel": {"backend": "jit", "data": -1, "space": 1},
        }
    )
