"""GenSeg: segmentation with few masks, boosted by translation (Vorontsov et al. 2019).

    bin/reproduce genseg
    bin/reproduce genseg_digits --data mnist/
    bin/reproduce genseg_digits_large --data mnist/
    bin/train --config configs/genseg.py:cpu --workdir work/genseg
    bin/train --config configs/genseg.py:cpu,arm=segmentation --workdir work/segmentation
    bin/train --config configs/genseg.py:gpu,data=hard --workdir work/hard
    bin/train --config configs/genseg.py:pod,data=hemispheres --workdir work/brats
    bin/train --config configs/genseg.py:gpu,data=findings --config.data.folder=xrays \
        --config.data.presence_of=presence.csv --workdir work/xrays

Sizes:
    cpu  glyphs in clutter, 32^2, codes of 64 + 16 channels, 2500 steps of 16 + 16 images
    gpu  the published networks (codes of 384 + 128 channels), bf16, 40 000 steps of 20 + 20
    pod  the same, 100 000 steps of 160 + 160

Data: `glyphs` (cpu's 32^2), `simple` and `hard` (48^2, 8 and 24 pieces of clutter), `large` (128^2,
80 pieces), `hemispheres` (brain phantoms or, with --config.data.folder=FOLDER, scans such as
BraTS), `findings` (a folder of images with and without a finding, some with a mask). With
--config.data.folder=FOLDER of MNIST's files the digits are real ones. One image in a hundred
(glyphs: in fifty) has a mask, of the digit 9 only.

Arms:
    proposed       translation, the residual decoder re-used for segmentation
    segmentation   encoder and segmentation decoder alone
    autoencoder    the same and a reconstruction decoder
    mean_teacher   the same and consistency with averaged weights
    separate       proposed, with a segmentation decoder of its own
    staged         separate, trained in four stages
    mine           proposed, less mutual information of the two parts of the code
    reversal       proposed, gradient reversal from u to the image without its finding
    multi_domain   two kinds of digits (0-4, 5-9), a domain and a class each
    unsplit        no split of the code: findings are removed, never added
    wide           twice as many channels

Options: skips (skinny | none | concatenate | sum | places), switch (layer | adaptive | instance),
gan (hinge | lsgan | wgan | jsgan | relativistic), cycle (apa | pap). Skips by `places` are trained
in four stages.
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import parse_argument

ARMS = (
    "proposed",
    "segmentation",
    "autoencoder",
    "mean_teacher",
    "separate",
    "staged",
    "mine",
    "reversal",
    "multi_domain",
    "unsplit",
    "wide",
)
BASELINES = ("segmentation", "autoencoder", "mean_teacher")
OPTIONS = {
    "arm": ARMS,
    "data": ("default", "glyphs", "simple", "hard", "large", "hemispheres", "findings"),
    "skips": ("skinny", "none", "concatenate", "sum", "places"),
    "switch": ("default", "layer", "adaptive", "instance"),
    "gan": ("hinge", "lsgan", "wgan", "jsgan", "relativistic"),
    "cycle": ("apa", "pap"),
}
SHAPES = {
    "glyphs": (32, 32),
    "simple": (48, 48),
    "hard": (48, 48),
    "large": (128, 128),
    "findings": (128, 128),
}
CLUTTER = {"glyphs": 6, "simple": 8, "hard": 24, "large": 80}


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, OPTIONS)
    size, arm, kind = chosen["size"], chosen["arm"], chosen["data"]
    small = size == "cpu"
    if kind == "default":
        kind = "glyphs" if small else "simple"
    brains, glyphs, own = kind == "hemispheres", kind == "glyphs", kind == "findings"
    shape = SHAPES.get(kind, (64, 32) if small else (240, 120))
    deep = (brains or own or kind == "large") and not small
    switch = chosen["switch"]
    if switch == "default":  # the published choices; `adaptive` knows images of one size only
        switch = "layer" if brains or own else "adaptive"
    width = 2 if arm == "wide" else 1
    features = (16, 32, 64, 128, 256, 512) if deep else (32, 64, 128, 256, 512)
    discriminator = (64, 128, 256, 512) if brains or own else (128, 256, 512)
    if small:
        features, discriminator = (8, 16, 32, 64), (16, 32, 64)
    train = {"glyphs": 4000, "hemispheres": 24 if small else 228, "findings": 0}.get(
        kind, 4000 if small else 59500
    )
    # Images of digits; patients of the others.
    validation, test = (100, 500) if small else (500, 10_000)
    if brains or own:
        validation, test = (4, 8) if small else (28, 29)
    return ConfigDict(
        {
            "system": "jaxmedgen.systems.translation.genseg",
            "steps": {"cpu": 2500, "gpu": 40_000, "pod": 100_000}[size],
            "batch_size": {"cpu": 16, "gpu": 20, "pod": 160}[size],
            "seed": 0,
            "accumulate": 1,
            "log_every": 25 if small else 100,
            "eval_every": 500 if small else 2000,
            "checkpoint_every": 500 if small else 1000,
            "show_every": 500 if small else 2000,
            "profile_at": -1,
            "clip": brains or own,
            "data": {
                "kind": kind if brains or own else "cluttered_digits",
                "folder": "",  # of MNIST's files, or of scans
                "label_map": "",
                "cache": "",
                "target_of": (),
                "target_names": (),
                "train_contrast": "",
                "test_contrast": "t2",
                "shape": shape,
                # BraTS' voxels: hemispheres fill as much of their images as published ones.
                "spacing": "1" if brains and not small else "fit",
                "crop_to_nonzero": True,
                # Hemispheres are scaled when they are cut, by all channels jointly as published.
                # Decoders end in tanh: images must lie within [-1, 1].
                "normalization": "none" if brains else "percentile" if own else "zscore",
                "train": train,  # 0: all that are not held out
                "validation": validation,
                "test": test,
                # Hemispheres of a folder: nnU-Net's splits_final.json in place of the numbers.
                "split_file": "",
                "fold": 0,
                "empty_labels": False,  # hemispheres of a folder: True keeps healthy subjects
                "seed": 0,
                # Share of the training images with a finding whose masks are known; of `findings` 1
                # takes all masks that there are.
                "labelled": {
                    "hemispheres": 0.1 if small else 0.01,
                    "glyphs": 0.02,
                    "findings": 1.0,
                }.get(kind, 0.01),
                # Of `findings`: table of case,presence (or the class of the finding) and
                # case,absence, or a pattern of case names; "": masks tell.
                "presence_of": "",
                # Digits.
                "labelled_kind": -1 if arm == "multi_domain" else 9,
                "clutter": CLUTTER.get(kind, 0),
                "piece": 6 if glyphs else 10,
                "glyph": 18 if glyphs else 28,
                "domains": 2 if arm == "multi_domain" and not (brains or own) else 1,
                # Hemispheres, cut from volumes (right, anterior, superior).
                "volume": (2 * shape[1], shape[0], 32 if small else 155) if brains else (),
                "finding": (),  # label values of the lesion; () is the last class
                "sick": 0.01,  # least share of the brain
                "brain": 0.25,  # least share of the image
                "channelwise": False,
                "bias_field": False,  # corrected by N4 (needs SimpleITK)
                "contrasts": ("flair", "t1ce", "t1", "t2") if brains else ("t1",),
                "classes": "tissue",
                "lesions": ("tumour",) if brains else (),
                "train_site": "a",
                "test_site": "a",
            },
            "patch_size": (),
            "foreground_probability": 0.0,
            "net": {
                "kind": "baseline" if arm in BASELINES else "genseg",
                "features": tuple(width * n for n in features),
                "unique": width * (16 if small else 128),
                "long_skips": chosen["skips"],
                "switch": switch,
                "residual_taps": 5,
                "residual_short_skips": False,
                "separate": arm in ("separate", "staged"),
                "split": arm != "unsplit",
                "domains": 2 if arm == "multi_domain" else 1,
                "discriminator": discriminator,
                "scales": 2 if small else 3,
                "estimator": (64, 64, 64) if small else (1000, 1000, 1000),
                "spectral": True,
                "remat": not small,
                "placed": False,  # discriminators know where slices lie
                "dtype": "float32" if small else "bfloat16",
            },
            "loss": {
                "gan": chosen["gan"],
                "penalty": 0.0,  # of the discriminators' gradient
                "penalty_kind": "r1",  # r1 | wgan-gp
                "cycle": chosen["cycle"],
                "joint_latent": True,
                "staged": arm == "staged" or chosen["skips"] == "places",
                "weight_sum": 0.0,  # weights are rescaled to this sum
                # True measures the mutual information of c and u also where it has no weight.
                "measure_information": False,
                "reversal": 0.1 if arm == "reversal" else 0.0,
                "weights": {
                    "image": 50.0,
                    "latent": 1.0,
                    "cycle": 50.0,
                    "adversarial": 3.0,
                    "segmentation": 0.01,
                    "information": 0.01 if arm == "mine" else 0.0,
                    "features": 0.0,  # of the encoder's maps
                    "place": 0.0,  # where slices seem to lie
                },
            },
            "baseline": {
                # The published configuration of the autoencoder at 128^2 has 0.01.
                "segmentation": 0.01 if arm == "autoencoder" and kind == "large" else 1.0,
                "reconstruction": 1.0 if arm == "autoencoder" else 0.0,
                "consistency": 10.0 if arm == "mean_teacher" else 0.0,
                "ema_decay": 0.99 if arm == "mean_teacher" else 0.0,
                "noise": 0.1,
            },
            "optimizer": {
                "kind": "amsgrad",
                "learning_rate": 1e-3,
                "discriminator_rate": 1e-3,
                "schedule": "constant",
                "warmup": 0,
                "clip_norm": 0.0,
                "weight_decay": 1e-4,  # added to the gradient
                "b1": 0.5,
                "b2": 0.999,
            },
            "augment": {
                "preset": "none",  # genseg2d: the published one
                "background": None,  # value around skull-stripped heads, or min
                "swap_labels": None,  # pairs that a flip exchanges; None: left and right in names
            },
            "parallel": {"backend": "jit", "data": -1, "space": 1, "quick_compile": small},
        }
    )
