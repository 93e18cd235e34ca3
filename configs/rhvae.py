"""RHVAE: small classes augmented from a learned Riemannian latent space (Chadebec et al., 2021).

    bin/reproduce rhvae
    bin/train --config configs/rhvae.py:cpu --workdir work/rhvae
    bin/train --config configs/rhvae.py:cpu,arm=vae --workdir work/vae
    bin/sample --workdir work/rhvae --count 16 --output work/junctions

Sizes:
    cpu  vessel junctions 20^2, 30 of each of 4 classes, all models side by side, full batch, 1000
         steps; about a minute on one core (arm=vae: 10 s); accuracy of a classifier trained on
         samples alone 82 % (arm=vae: 75 %)
    gpu  MNIST, plain digits: 500 (50 of each class), of which 400 train and 100 validate, all
         others test; d = 10, full batch, up to 10000 epochs, best weights after 50 epochs without
         a better bound (--config.data.folder=FOLDER of its files; the 10000 of t10k will do)
    pod  the same

Arms:
    rhvae     learned metric, reference objective, samples of the inverse volume
    exact     the same with the exact bound
    frozen    the same with the published code's explicit leapfrog
    walk      as rhvae, samples by the Riemannian random walk
    hvae      Hamiltonian VAE: flat metric, samples of the prior
    vae       no flow, samples of the prior
    beta      the same with beta 4
    iwae      importance-weighted bound of 10 samples
    flow      VAE whose latents' density a normalising flow learns
    labels    as rhvae, of label maps
    both      as rhvae, of images with their label maps
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import parse_argument

ARMS = (
    *("rhvae", "exact", "frozen", "walk", "hvae", "vae", "beta", "iwae", "flow"),
    *("labels", "both"),
)
_GEOMETRY = {"hvae": "flat", "vae": "none", "beta": "none", "iwae": "none", "flow": "none"}
_PRIOR = {"hvae": "normal", "vae": "normal", "beta": "normal", "iwae": "normal", "flow": "density"}


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, {"arm": ARMS})
    size, arm = chosen["size"], chosen["arm"]
    large = size != "cpu"
    kinds, each = (10, 40) if large else (4, 30)
    # Digits as they are, as many of each class; -1: all others.
    digits = {"rotation": 0.0, "shift": 0.0, "balanced": True} if large else {}
    return ConfigDict(
        {
            "system": "jaxmedgen.systems.shape.rhvae",
            "steps": 10000 if large else 1000,
            "batch_size": kinds * each,  # all samples: the metric of a step is that of all
            "patience": 50 if large else 0,
            "seed": 0,
            "accumulate": 1,
            "log_every": 50,
            "show_every": 0,
            "eval_every": 0,
            "checkpoint_every": 1000 if large else 250,
            "profile_at": -1,
            "data": {
                "kind": "mnist" if large else "vessel_junctions",
                "folder": "",
                "label_map": "",
                "cache": "",
                "target_of": (),
                "target_names": (),
                "train_contrast": "",
                "test_contrast": "t2",
                "shape": (28, 28) if large else (20, 20),
                "spacing": "native",
                "crop_to_nonzero": False,
                "normalization": "none",
                "train": kinds * each,
                "validation": 10 * kinds if large else 0,
                "test": -1 if large else 400 * kinds,
                "seed": 0,
                **digits,
            },
            "patch_size": (),
            "foreground_probability": 0.33,
            "model": {
                "content": {"labels": "label", "both": "both"}.get(arm, "image"),
                "likelihood": "bernoulli",  # bernoulli (images in [0, 1]) | gaussian
                "deviation": 1.0,  # of the Gaussian
                "latents": 10 if large else 6,
                "hidden": 400 if large else 200,
                "features": (),  # (16, 32, 64, 128): convolutions
                "temperature": 1.5 if large else 0.8,
                "regularisation": 1e-3,
                "kinds": kinds,
                "condition": "kind",  # key of the records; "" with kinds=1
                "subjects": 0,  # training samples; 0: data.train
                "per_kind": 0,  # largest number of samples of a kind; 0: equal shares
                "density_layers": 6 if arm == "flow" else 0,
            },
            "criterion": {
                "geometry": _GEOMETRY.get(arm, "learned"),  # learned | flat | none
                "objective": "exact" if arm in ("exact", "hvae") else "reference",
                "samples": 10 if arm == "iwae" else 1,
                "beta": 4.0 if arm == "beta" else 1.0,
                "steps": 3,
                "step_size": 0.01,
                "tempered": 0.3,  # square root of the first inverse temperature
                "iterations": 3,
                "frozen": arm == "frozen",
            },
            "sampling": {
                # manifold | walk | wrapped | normal | density
                "prior": "walk" if arm == "walk" else _PRIOR.get(arm, "manifold"),
                "transitions": 400 if large else 100,
                "leapfrogs": 15,
                "step_size": 0.05,
                "radius": 2.0,
                "deviation": 0.7,
                "correction": "exact",  # of the walk; none: the source's
            },
            "optimizer": {"kind": "adam", "learning_rate": 1e-3, "clip_norm": 0.0},
            "parallel": {"backend": "jit", "data": -1, "space": 1},
        }
    )
