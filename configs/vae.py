"""VAE and conditional VAE of masks, autoencoder, linear shape models (Kingma & Welling 2014).

    bin/reproduce vae
    bin/train --config configs/vae.py:cpu --workdir work/vae
    bin/train --config configs/vae.py:cpu,arm=cvae --workdir work/cvae
    bin/sample --workdir work/cvae --condition 3 --count 16 --output work/threes
    bin/sample --workdir work/vae --method interpolation --count 8 --output work/between
    bin/evaluate --workdir work/vae

Sizes:
    cpu  32^2 masks (3200), convolutions of 32, 64, 64 channels, batch 64, 2000 steps; about 6
         minutes on one core (arm=mlp: 1); with dense layers the bound reaches -50 nats on ellipses
         and -100 on digits whose class is given
    gpu  96^3 masks of a folder, convolutions of 32 to 256 channels, batch 16, 20 000 steps
    pod  the same, batch 64

Arms:
    vae           N(0, I) prior, beta 1
    beta          beta 4
    ae            autoencoder: no noise, no Kullback-Leibler term
    cvae          encoder and decoder see the condition, p(z|y) = N(0, I)
    cvae-learned  the same with p(z|y) learned from the condition
    cvae-decoder  only the decoder sees the condition
    mlp           dense layers of 400 units
    linear        affine maps, one free variance a latent dimension, learned output noise
    pca           principal components for 95 % of the variance, 20 at most
    ppca          probabilistic principal components

Options: `data=` digits, ellipses, mnist (with --config.data.folder=FOLDER), folder (label maps are
the masks); `loss=` bce, l2_norm, l2_sq, l1, dice, ce, gaussian; `condition=` class, image (upper
half of the mask), vector (width, rotation, scale, shifts), class+image.
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import parse_argument

ARMS = (
    *("vae", "beta", "ae", "cvae", "cvae-learned", "cvae-decoder"),
    *("mlp", "linear", "pca", "ppca"),
)
OPTIONS = {
    "arm": ARMS,
    "data": ("default", "digits", "ellipses", "mnist", "folder"),
    "loss": ("default", "bce", "l2_norm", "l2_sq", "l1", "dice", "ce", "gaussian"),
    "condition": ("class", "image", "vector", "class+image"),
}
_KEYS = {"class": "target", "image": "context", "vector": "factors"}


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, OPTIONS)
    size, arm, data = chosen["size"], chosen["arm"], chosen["data"]
    large = size != "cpu"
    if data == "default":
        data = "folder" if large else "digits"
    loss = chosen["loss"]
    if loss == "default":
        loss = "gaussian" if arm == "linear" else "bce"
    components = arm in ("pca", "ppca")
    conditional = arm.startswith("cvae")
    kinds = tuple(chosen["condition"].split("+")) if conditional else ()
    train = {"folder": 0, "mnist": 8000}.get(data, 3200)
    steps = 1 if components else (20000 if large else 2000)
    volumes = data == "folder"
    model = {"latents": 20 if components else 16, "masks": volumes}
    if components:
        model |= {"kind": arm, "share": 0.95}
    else:
        convolutional = (32, 64, 128, 256) if volumes else (32, 64, 64)
        dense = arm in ("mlp", "linear")
        model |= {
            "architecture": arm if dense else "conv",
            "widths": (400,) if arm == "mlp" else convolutional,
            "neck": 128,  # of conv
            "prior": "learned" if arm == "cvae-learned" else "standard",
            "encoder_sees": arm != "cvae-decoder",
            "stochastic": arm != "ae",
            "dtype": "bfloat16" if large else "float32",
        }
    return ConfigDict(
        {
            "system": "jaxmedgen.systems.shape." + ("component_model" if components else "vae"),
            "steps": steps,
            "batch_size": train or 64 if components else {"cpu": 64, "gpu": 16, "pod": 64}[size],
            "seed": 0,
            "accumulate": 1,
            "log_every": 1 if components else 50,
            "show_every": 0 if components else 500,
            "eval_every": 0,
            "checkpoint_every": 500,
            "profile_at": -1,
            "data": {
                "kind": {"digits": "digit_masks"}.get(data, data),
                "folder": "",
                "label_map": "",
                "cache": "",
                "target_of": (),
                "target_names": (),
                "train_contrast": "",
                "test_contrast": "t2",
                "shape": (96, 96, 96) if volumes else ((28, 28) if data == "mnist" else (32, 32)),
                "spacing": "fit",
                "crop_to_nonzero": False,
                "normalization": "none",
                "train": train,  # 0: all that are left
                "validation": 10 if volumes else 400,
                "test": 10 if volumes else 400,
                "seed": 0,
                **({"rotation": 0.0, "shift": 0.0} if data == "mnist" else {}),
            },
            "patch_size": (),
            "foreground_probability": 0.33,
            "model": model,
            "condition": {
                "kinds": kinds,  # class | vector | image
                "names": tuple(_KEYS[kind] for kind in kinds),  # of the records
                "classes": 10,
                "length": 5,  # of a vector
                "features": 64,  # units for an image
                "widths": (16, 32),  # of its convolutions
            },
            "criterion": {
                "reconstruction": loss,
                "reduction": "sum",  # mean over voxels: beta counts as many times more
                "sigmoid": loss not in ("gaussian",),  # the mean of l1 and l2 lies in [0, 1]
                "beta": {"beta": 4.0, "ae": 0.0}.get(arm, 1.0),
                "warm_up": steps // 5,
                "free_bits": 0.0,
            },
            "optimizer": {
                "kind": "adam",
                "learning_rate": 1e-2 if arm == "linear" else 1e-3,
                "schedule": "cosine" if arm == "linear" else "constant",
                "warmup": 0,
                "clip_norm": 0.0,
                "ema_decay": 0.0,
            },
            "parallel": {"backend": "jit", "data": -1, "space": 1},
        }
    )
