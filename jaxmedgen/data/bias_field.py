"""Slow changes of brightness over an MR image, corrected by N4 (Tustison et al., TMI 2010).

SimpleITK does it, which is not installed by default: ``pip install SimpleITK``.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

ITERATIONS = (50, 50, 50, 10)
"""On each of four resolutions, as for BraTS (Vorontsov et al., arXiv 1904.01636)."""


def without_bias_field(
    image: Float[np.ndarray, "x y z c"],
    mask: Bool[np.ndarray, "x y z"],
    iterations: Sequence[int] = ITERATIONS,
) -> Float[np.ndarray, "x y z c"]:
    """Every channel divided by its bias field, 0 outside the mask.

    Args:
        image: intensities as the scanner gives them: the field is a factor, so that shifted ones
            (z-scores) are of no use.
        mask: the brain. Taking a segmentation of the lesion for it would tell where the lesion is.
        iterations: most iterations on each resolution, coarsest first.

    Raises:
        ModuleNotFoundError: SimpleITK is not installed.
        ValueError: intensities within the mask that are not positive, or an empty mask.
    """
    try:
        import SimpleITK
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "bias fields are corrected by SimpleITK: pip install SimpleITK"
        ) from error
    if not mask.any():
        raise ValueError("without_bias_field: the mask is empty")
    if image[mask].min() <= 0:
        raise ValueError(
            f"without_bias_field: {(image[mask] <= 0).mean():.1%} of the intensities within the "
            "mask are not positive: give raw ones (data.normalization='none')"
        )
    found = np.zeros_like(image)
    inside = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    for channel in range(image.shape[-1]):
        n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations([int(n) for n in iterations])
        values = SimpleITK.GetImageFromArray(np.ascontiguousarray(image[..., channel]))
        corrected = SimpleITK.GetArrayFromImage(n4.Execute(values, inside))
        found[..., channel] = np.where(mask, corrected, 0)
    return found
