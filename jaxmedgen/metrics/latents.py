"""What a latent space is like: dimensions in use, smoothness along a stack.

Source: Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", 2016 (active units).
"""

import numpy as np
from jaxtyping import Float


def active_units(means: Float[np.ndarray, "m d"], threshold: float | int = 0.01) -> int:
    """Latent dimensions whose posterior mean varies over the data by more than `threshold`.

    Args:
        means: of the posteriors.
        threshold: least variance.
    """
    return int((means.var(0) > threshold).sum())


def roughness(latents: Float[np.ndarray, "n d"]) -> float:
    """``sum_i |z_{i+1} - 2 z_i + z_{i-1}|^2`` along a stack; 0 for a straight line."""
    return float((np.diff(latents, 2, axis=0) ** 2).sum()) if len(latents) > 2 else 0.0
