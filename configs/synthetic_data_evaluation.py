"""Do synthetic images help a segmenter, and may they take the place of real ones?

    bin/reproduce synthetic_data_evaluation
    bin/ablate --experiment reduction --generator oracle --workdir work/reduction
    bin/ablate --experiment augmentation --generator configs/cardiac_synthesis.py:cpu \
        --workdir work/augmentation
    bin/train --config configs/synthetic_data_evaluation.py:cpu,arm=classic --workdir work/real

Heart phantoms of four vendors and four diseases, or any folder with --data: the segmenter is the
same U-Net with the same number of steps in every arm of `jaxmedgen/experiments/synthetic/`.

Sizes:
    cpu  slices 64^2, features 8-16-32, 300 steps of 6; 17 s a run on one core
    gpu  slices 128^2, features 32-64-128-256, bf16, 2000 steps of 32
    pod  the same at batch 256

Arms: classic, none (augmentation of every image, real or synthetic). Experiments choose who is
trained and tested on: augmentation, reduction, domain_shift, pathology, outliers, agreement; scar
has late-enhancement slices.
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config, parse_argument

MOSTLY_HEALTHY = (*("NOR",) * 8, "HCM", "DCM")
EXPERIMENTS = {
    # training vendors, test vendors, training diseases, test diseases
    "augmentation": ("A", "AC", ("NOR",), ("NOR",)),
    "reduction": ("AB", "AB", ("NOR",), ("NOR",)),
    "domain_shift": ("A", "ABCD", ("NOR",), ("NOR",)),
    "pathology": ("A", "A", MOSTLY_HEALTHY, ("NOR", "DCM", "HCM", "RV")),
    "outliers": ("A", "A", MOSTLY_HEALTHY, ("NOR", "DCM", "HCM")),
    "agreement": ("AB", "AB", ("NOR",), ("NOR",)),
    "scar": ("A", "A", ("NOR",), ("NOR",)),
}
ARMS = ("classic", "none")


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, {"experiment": tuple(EXPERIMENTS), "arm": ARMS})
    size, experiment = chosen["size"], chosen["experiment"]
    large = size != "cpu"
    config = load_config(f"unet:{size},arm=none").unlock()
    config.update(
        steps=2000 if large else 300,
        batch_size={"cpu": 6, "gpu": 32, "pod": 256}[size],
        eval_every=500 if large else 150,
        checkpoint_every=500 if large else 150,
        log_every=50 if large else 20,
        patch_size=(),
    )
    config.net.update(
        features=(32, 64, 128, 256) if large else (8, 16, 32), deep_supervision=False, remat=False
    )
    config.parallel.space = 1
    if not large:
        config.optimizer.learning_rate = 5e-3
    config.augment.preset = chosen["arm"]
    vendors, tested, diseases, test_diseases = EXPERIMENTS[experiment]
    config.data.update(
        kind="heart_slices",
        shape=(128, 128) if large else (64, 64),
        train=40,  # the pool that labelled subjects are drawn from
        validation=4,
        test=20,  # of every vendor and disease
        target_of=(0, 1, 2, 3, 0, 0, 0, 0),
        target_names=("background", "lv_blood", "lv_myocardium", "rv_blood"),
    )
    config.data.train_vendors = tuple(vendors)
    config.data.test_vendors = tuple(tested)
    config.data.train_diseases = diseases
    config.data.test_diseases = test_diseases
    config.data.slices = 3
    if experiment == "scar":
        config.data.update(
            kind="late_enhancement",
            target_of=(0, 1, 2, 0, 0, 0, 0, 0, 3, 3),
            target_names=("background", "lv_blood", "myocardium", "scar"),
        )
    config.experiment = ConfigDict(
        {
            "name": experiment,
            "preset": "classic+elastic",  # augmentation in all arms but those without
            "labelled": 8,  # real subjects of all experiments but the reduction
            "fractions": (1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05),  # of the pool, in the reduction
            "ratios": (1, 2, 5),  # synthetic images to real ones
            "deformation": "rot+elastic",  # of label maps: none | elastic | rot+elastic | pathology
            "vendor_pattern": "^([^-]+)-",  # the vendor in the names of cases; "" for none
            "disease_pattern": "^[^-]+-([^-]+)-",
            "target_vendor": "C",  # of the domain shift
            "style_images": 4,  # unlabelled ones a vendor, for generators that read styles
            # Refuses models that were trained on cases with the names of held-out ones.
            "check_names": True,
        }
    )
    return config
