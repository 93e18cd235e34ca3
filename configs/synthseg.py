"""Segmentation of real scans after training on label maps alone (Billot et al. 2023).

    bin/train --config configs/synthseg.py:cpu --data LABEL_MAPS --workdir work/synthseg
    bin/predict --workdir work/synthseg --input scan.nii.gz --output work/segmented

No image is ever shown: each training image is made within the step from a label map, with a random
contrast, resolution, bias field and deformation, so that the network segments scans of any
contrast. The folder holds FreeSurfer label maps (`configs/labels/freesurfer.csv`: 15 structures
that are given intensities of their own); five classes are predicted. Label 24 of such maps is the
whole subarachnoid space, which few references outline, and is trained as background.

Contrasts: ``contrast=random`` draws every structure's intensity on its own; ``contrast=t1`` keeps
them within 0.12 of a T1-weighted order (`data/simulated.py`), which needs far fewer steps.

Sizes:
    cpu  2 mm, patches 48^3, batch 2, 12-24-48-96 features; under 20 minutes on 2 cores
    gpu  1 mm, patches 128^3, 24-48-96-192-384 features, batch 2, 40000 steps, bf16
    pod  the same at batch 32, 20000 steps
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config, parse_argument
from jaxmedgen.data.label_map import read_label_map
from jaxmedgen.data.simulated import FAMILIES

LABELS = "freesurfer"  # configs/labels/freesurfer.csv

CLASSES = {
    "background": ("background", "sulcal_csf"),
    "white_matter": ("white_matter",),
    "grey_matter": ("cortex",),
    "ventricles": ("lateral_ventricle", "other_ventricles"),
    "deep_grey": (
        "thalamus",
        "caudate",
        "putamen",
        "pallidum",
        "hippocampus_amygdala",
        "accumbens",
        "ventral_dc",
    ),
    "cerebellum_stem": ("cerebellar_white_matter", "cerebellar_cortex", "brain_stem"),
}


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, {"contrast": ("random", "t1")})
    size = chosen["size"]
    config = load_config(f"unet:{size},arm=none").unlock()
    large = size != "cpu"
    _, names = read_label_map(LABELS)
    target = {part: number for number, parts in enumerate(CLASSES.values()) for part in parts}
    config.update(
        steps={"cpu": 1200, "gpu": 40000, "pod": 20000}[size],
        batch_size={"cpu": 2, "gpu": 2, "pod": 32}[size],
        eval_every=0,  # label maps alone: nothing to validate on
        checkpoint_every=200,
        log_every=50,
        patch_size=(128, 128, 128) if large else (48, 48, 48),
        foreground_probability=0.9,
    )
    config.data.update(
        kind="folder",
        label_map=LABELS,
        target_of=tuple(target[name] for name in names),
        target_names=tuple(CLASSES),
        spacing="1" if large else "2",
        shape=(),
        crop_to_nonzero=False,
        normalization="zscore",
        train=0,
        validation=0,
        test=0,
    )
    config.net.features = (24, 48, 96, 192, 384) if large else (12, 24, 48, 96)
    config.optimizer.ema_decay = 0.995
    config.augment.update(preset="none", synthesis_probability=1.0)
    config.augment.synthesis.update(labels=len(names), strip_probability=0.5)
    if chosen["contrast"] == "t1":
        means = (0.02, *(FAMILIES["t1"][name] for name in names[1:]))
        config.augment.synthesis.update(
            contrast_means=tuple((max(m - 0.12, 0.0), m + 0.12) for m in means),
            deviation=(0.02, 0.09),
            gamma=0.2,
            thickness=(1.0, 2.5, 0.3),
        )
    return config
