"""MONAI's transforms."""

import os
from collections.abc import Callable

import monai.transforms as mt
import numpy as np
import torch


def steps(image: np.ndarray, label: np.ndarray) -> dict[str, Callable[[], object]]:
    """MONAI's transforms with the same ranges (dictionary form, samples one by one)."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    both, turn = ["image", "label"], [np.pi / 6] * 3

    def affine(p):
        scale = [(-0.3, 0.4)] * 3
        return mt.RandAffined(
            both,
            prob=p,
            rotate_range=turn,
            scale_range=scale,
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        )

    def noise(p):
        return mt.RandGaussianNoised("image", prob=p, std=0.1)

    def blur(p):
        return mt.RandGaussianSmoothd("image", (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=p)

    def brightness(p):
        return mt.RandScaleIntensityd("image", factors=0.25, prob=p)

    def contrast(p):
        return mt.RandScaleIntensityFixedMeand(
            "image", factors=0.25, prob=p, fixed_mean=True, preserve_range=True
        )

    def low_resolution(p):
        return mt.RandSimulateLowResolutiond("image", prob=p, zoom_range=(0.5, 1.0))

    def gamma(p, invert=False):
        return mt.RandAdjustContrastd(
            "image", prob=p, gamma=(0.7, 1.5), retain_stats=True, invert_image=invert
        )

    single = {
        "affine": affine(1.0),
        "deformation": mt.Rand3DElasticd(
            both,
            sigma_range=(9, 13),
            magnitude_range=(100, 900),
            prob=1.0,
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
        "bias": mt.RandBiasFieldd("image", degree=3, coeff_range=(-0.5, 0.5), prob=1.0),
        "noise": noise(1.0),
        "blur": blur(1.0),
        "brightness": brightness(1.0),
        "contrast": contrast(1.0),
        "low_resolution": low_resolution(1.0),
        "gamma": gamma(1.0),
    }
    classic = [affine(0.36), noise(0.1), blur(0.1), brightness(0.15), contrast(0.15)]
    classic += [low_resolution(0.125), gamma(0.1, True), gamma(0.3)]
    classic += [mt.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)]
    samples = [
        {"image": torch.from_numpy(x[None, ..., 0]), "label": torch.from_numpy(y[None])}
        for x, y in zip(image, label)
    ]

    def step(transform) -> Callable[[], object]:
        return lambda: [transform(dict(sample)) for sample in samples]

    return {name: step(t) for name, t in {"classic": mt.Compose(classic), **single}.items()}
