"""Normalisation of a subject's intensities, channel by channel, after nnU-Net.

Source: Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation", Nature Methods 2021.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

NORMALIZATIONS = ("zscore", "ct", "minmax", "percentile", "none")

Statistics = tuple[float, float, float, float]
"""Low, high, mean, deviation of foreground intensities, in image units."""


def normalize(
    image: Float[np.ndarray, "*s c"],
    normalization: str | Sequence[str],
    ct_statistics: Sequence[Statistics] | None = None,
) -> Float[np.ndarray, "*s c"]:
    """Normalised channels, float32.

    Args:
        image: in its own units.
        normalization: one of `NORMALIZATIONS` for all channels, or one a channel.
        ct_statistics: of "ct", one for all channels or one a channel.

    Raises:
        ValueError: the number of settings is not that of channels, "ct" without statistics, or a
            channel is constant.
    """
    channels = image.shape[-1]
    names = (normalization,) * channels if isinstance(normalization, str) else normalization
    if len(names) != channels:
        raise ValueError(f"{len(names)} normalizations for {channels} image channels")
    if "ct" in names and ct_statistics is None:
        raise ValueError("'ct' normalisation lacks ct_statistics: call fit() first")
    result = np.empty(image.shape, np.float32)
    for c, name in enumerate(names):
        low, high, shift, scale = _transfer(name, image[..., c], c, ct_statistics)
        if not scale > 0:
            raise ValueError(f"image channel {c} is constant: {name!r} cannot scale it")
        result[..., c] = (np.clip(image[..., c], low, high) - shift) / scale
    return result


def foreground_statistics(values: np.ndarray) -> Statistics:
    """What "ct" takes of a channel's foreground intensities: 0.5 and 99.5 %, mean, deviation."""
    values = np.asarray(values, np.float64)
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(high), float(values.mean()), float(values.std())


def _transfer(name, x, c, ct_statistics):
    """Clip limits, shift and scale of one channel."""
    infinity = float("inf")
    if name == "zscore":
        values = x[x != 0]
        values = (values if values.size else x).astype(np.float64)
        return -infinity, infinity, float(values.mean()), float(values.std())
    if name == "ct":
        return ct_statistics[c if len(ct_statistics) > 1 else 0]
    if name == "minmax":
        return -infinity, infinity, float(x.min()), float(x.max()) - float(x.min())
    if name == "percentile":
        low, high = (float(v) for v in np.percentile(x, (0.5, 99.5)))
        return low, high, low, high - low
    return -infinity, infinity, 0.0, 1.0
