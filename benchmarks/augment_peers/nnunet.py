"""The transforms of nnU-Net v2 (``batchgeneratorsv2``)."""

import os
from collections.abc import Callable

import numpy as np
import torch
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform


def steps(image: np.ndarray, label: np.ndarray) -> dict[str, Callable[[], object]]:
    """The transforms of nnU-Net v2's default 3D trainer (samples one by one)."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    angle, factor = np.pi / 6, BGContrast((0.75, 1.25))

    def spatial(p, elastic=0.0):
        return SpatialTransform(
            image.shape[1:-1],
            patch_center_dist_from_border=0,
            random_crop=False,
            p_elastic_deform=elastic,
            p_rotation=p,
            rotation=(-angle, angle),
            p_scaling=p,
            scaling=(0.7, 1.4),
        )

    def gamma(invert):
        return GammaTransform(BGContrast((0.7, 1.5)), invert, False, 1.0, 1.0)

    def low_resolution(p):
        return SimulateLowResolutionTransform((0.5, 1.0), False, True, (), None, p)

    noise = GaussianNoiseTransform((0.0, 0.1), 1.0, True)
    brightness = MultiplicativeBrightnessTransform(factor, False, 1.0)
    contrast = ContrastTransform(factor, True, False, 1.0)
    classic = [
        spatial(0.2),
        RandomTransform(noise, 0.1),
        RandomTransform(GaussianBlurTransform((0.5, 1.0), False, False, 0.5), 0.2),
        RandomTransform(brightness, 0.15),
        RandomTransform(contrast, 0.15),
        RandomTransform(low_resolution(0.5), 0.25),
        RandomTransform(gamma(1), 0.1),
        RandomTransform(gamma(0), 0.3),
        MirrorTransform((0, 1, 2)),
    ]
    transforms = {
        "classic": ComposeTransforms(classic),
        "affine": spatial(1.0),
        "deformation": spatial(0.0, elastic=1.0),
        "noise": noise,
        "blur": GaussianBlurTransform((0.5, 1.0), False, False, 1.0),
        "brightness": brightness,
        "contrast": contrast,
        "low_resolution": low_resolution(1.0),
        "gamma": gamma(0),
    }
    images = [torch.from_numpy(x[None, ..., 0]) for x in image]
    labels = [torch.from_numpy(y[None]) for y in label]

    def step(transform) -> Callable[[], object]:
        # Cloned, for some transforms work in place.
        return lambda: [
            transform(image=x.clone(), segmentation=y.clone()) for x, y in zip(images, labels)
        ]

    return {name: step(transform) for name, transform in transforms.items()}
