"""U-Net segmentation, the baseline of every augmentation study (Isensee et al. 2021).

    bin/train --config configs/unet.py:cpu --workdir work/unet
    bin/train --config configs/unet.py:gpu,arm=diffeomorphic --workdir work/unet --config.seed=1

Sizes:
    cpu  brain phantoms 40^3 (12 for training), 600 steps; minutes on 2 cores
    gpu  brain phantoms 96^3, batch 4, 4000 steps, bf16
    pod  the same at batch 64, patches 128^3 of 160^3 volumes, depth split over 2 devices

Arms: none, light, classic, diffeomorphic (augmentation presets) and synthesis (half of the images
of a batch are synthesised from label maps).
"""

from ml_collections import ConfigDict

from jaxmedgen.configuration import parse_argument

ARMS = ("classic", "none", "light", "diffeomorphic", "synthesis")


def get_config(argument: str = "") -> ConfigDict:
    chosen = parse_argument(argument, {"arm": ARMS})
    size, arm = chosen["size"], chosen["arm"]
    large = size != "cpu"
    synthesis = arm == "synthesis"
    return ConfigDict(
        {
            "system": "jaxmedgen.systems.segmentation.unet",
            "steps": {"cpu": 600, "gpu": 4000, "pod": 20000}[size],
            "batch_size": {"cpu": 2, "gpu": 4, "pod": 64}[size],
            "seed": 0,
            "accumulate": 1,
            "log_every": 20,
            "eval_every": 200,
            "checkpoint_every": 100,
            "profile_at": -1,
            "ignore_label": -1,
            "data": {
                "kind": "brain",  # brain | shapes | short_axis | folder | tfds | ...: docs/data.md
                "folder": "",
                "label_map": "",  # CSV or JSON file (or freesurfer): value in the files -> class
                "cache": "",  # folder for preprocessed scans; "" keeps them in memory
                "target_of": (),  # generation label -> class, where synthesis needs finer labels
                "target_names": (),
                # Label-only folders: simulate scans of a contrast family (t1 | t2); "" does not.
                "train_contrast": "",
                "test_contrast": "t2",
                "shape": {"cpu": (40, 40, 40), "gpu": (96, 96, 96), "pod": (160, 160, 160)}[size],
                # Folders: mm (2 or 1,1,3), or median | native | fit (training within `shape`).
                "spacing": "fit",
                "crop_to_nonzero": True,
                "normalization": "zscore",
                "train": 12,
                "validation": 4,
                "test": 8,
                # Folders: nnU-Net's splits_final.json (or its folder) in place of the numbers.
                "split_file": "",
                "fold": 0,
                "empty_labels": False,  # folders: True keeps subjects without foreground
                "images_only": False,  # folders: True takes scans without any label map
                "seed": 0,
                "contrasts": ("t1",),
                "classes": "tissue",  # phantoms: tissue (3 classes) | anatomy (7)
                "lesions": (),
                "train_site": "a",
                "test_site": "b",
                # Hearts (short_axis, short_axis_stack, heart_slices, late_enhancement).
                "vendors": (),  # of A, B, C, D; () = A and B, of heart_slices A
                "test_vendors": (),  # () = those of training
                "heart_classes": 0,  # of short_axis: 4 (0 as well), or 8 with the organs
                "diseases": (),  # of NOR, DCM, HCM, RV; () = all, of heart_slices NOR
                "test_diseases": (),  # of heart_slices; () = those of training
                "phases": (),  # of short_axis_stack: ED, ES; () = ED
                "slices": 0,  # a subject, of late_enhancement; 0 = 1
                # Cluttered digits; None = 8 pieces of 10 pixels, glyphs of 28, one class.
                "clutter": None,
                "piece": None,
                "glyph": None,
                "domains": None,
            },
            "patch_size": (128, 128, 128) if size == "pod" else (),  # () = whole volumes
            "foreground_probability": 0.33,
            "net": {
                "features": (32, 64, 128, 256, 320) if large else (8, 16, 32),
                "blocks": 2,
                "residual": False,
                "norm": "instance",
                "deep_supervision": large,
                "dropout": 0.0,
                "remat": size == "pod",
                "dtype": "bfloat16" if large else "float32",
            },
            "optimizer": {
                "kind": "adamw",
                "learning_rate": 3e-3 if size == "cpu" else 1e-3,
                "schedule": "cosine",
                "warmup": 20,
                "clip_norm": 1.0,
                "weight_decay": 1e-4,
                "ema_decay": 0.0,
            },
            "augment": {
                "preset": "light" if synthesis else arm,  # augment/presets.py; a+b joins two
                # Value around skull-stripped heads, which keep it; min: each sample's lowest.
                "background": None,
                "swap_labels": None,  # pairs that a flip exchanges; None: left and right in names
                "geodesic_energy": (),  # of the geodesic presets: (low, high) in mm^2; (): by RMS
                "ramp": 0.0,  # part of the steps over which augmentation sets in
                "synthesis_probability": 0.5 if synthesis else 0.0,
                "synthesis": {  # augment/label_to_image.py; ranges are (low, high[, probability])
                    "labels": 256,
                    "contrast_means": None,  # one range a label; None draws all from (0, 1)
                    "deviation": (0.0, 0.14),
                    "background_regions": 4,
                    "strip_probability": 0.3,
                    "bias": (0.0, 0.5),
                    "gamma": 0.4,
                    "thickness": (1.0, 5.0, 0.5),
                },
            },
            "parallel": {"backend": "jit", "data": -1, "space": 2 if size == "pod" else 1},
        }
    )
