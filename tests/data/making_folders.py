"""Folders of small random scans, as the tests of this package make them."""

import json

import numpy as np

from jaxmedgen.data.nifti import write_volume

SHAPE = (8, 9, 6)


def save(path, array, spacing=(1.0, 1.0, 2.0), origin=(0.0, 0.0, 0.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    write_volume(path, array, affine)


def scan(seed):
    return np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.float32)


def seg(seed, values=(0, 1, 2)):
    return np.random.default_rng(seed).choice(values, SHAPE).astype(np.int32)


def make_nnunet(folder, cases=("a", "b", "c"), channels=2, labels=None, **extra):
    for i, name in enumerate(cases):
        for c in range(channels):
            save(folder / f"imagesTr/{name}_{c:04d}.nii.gz", scan(10 * i + c))
        save(folder / f"labelsTr/{name}.nii.gz", seg(i))
    content = {
        "channel_names": {str(c): f"MR{c}" for c in range(channels)},
        "labels": labels or {"background": 0, "liver": 1, "tumour": 2},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        **extra,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def make_pairs(folder, cases=("a", "b"), values=(0, 1, 2)):
    for i, name in enumerate(cases):
        save(folder / f"images/{name}.nii.gz", scan(i))
        save(folder / f"labels/{name}.nii.gz", seg(i, values))
    return folder
