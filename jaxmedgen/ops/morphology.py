"""Binary morphology on the device: dilate, erode, open, close, in 2D and 3D, a batch at a time.

Masks are moved by the offsets of a structuring element and joined: no sorting, no gathers. The
number of repetitions may differ between samples of a batch.

Source: Serra, "Image analysis and mathematical morphology", 1982; the elliptical 3 x 3 element of
OpenCV is the cross.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


def elliptical_element(size: Sequence[int]) -> Bool[np.ndarray, "*s"]:
    """Voxels within the ellipse that fills a box of odd sizes; 3 x 3 is the cross.

    ``(1, 3, 3)`` works within the slices of a volume whose first axis is thick.

    Raises:
        ValueError: an even size.
    """
    if any(n < 1 or n % 2 == 0 for n in size):
        raise ValueError(f"element of size {tuple(size)}: give odd sizes")
    radii = [max(n // 2, 0) for n in size]
    grids = np.meshgrid(*(np.arange(-r, r + 1) for r in radii), indexing="ij")
    squared = sum((g / r) ** 2 for g, r in zip(grids, radii) if r)
    return np.broadcast_to(np.asarray(squared) <= 1 + 1e-9, tuple(size))


def dilate(
    mask: Bool[Array, " b *s"],
    iterations: Int[Array, " b"] | int = 1,
    *,
    element: Bool[np.ndarray, "..."] | None = None,
    within: Bool[Array, " b *s"] | None = None,
) -> Bool[Array, " b *s"]:
    """Voxels that the element reaches from the mask; nothing enters from beyond the border.

    Args:
        mask: true inside.
        iterations: repetitions, one number or one a sample; 0 changes nothing.
        element: symmetric structuring element; by default the cross of 3 voxels an axis.
        within: voxels that may be entered; by default all.

    Raises:
        ValueError: an element of other axes than the mask's.
    """
    offsets = _offsets(mask, element)
    counts = jnp.broadcast_to(jnp.asarray(iterations, jnp.int32), mask.shape[:1])
    allowed = mask | within if within is not None else jnp.ones_like(mask)

    def once(number, mask):
        grown = mask
        for offset in offsets:
            grown = grown | _moved(mask, offset)
        on = (number < counts).reshape(-1, *(1,) * (mask.ndim - 1))
        return jnp.where(on, grown & allowed, mask)

    return jax.lax.fori_loop(0, counts.max(), once, mask)


def erode(
    mask: Bool[Array, " b *s"],
    iterations: Int[Array, " b"] | int = 1,
    *,
    element: Bool[np.ndarray, "..."] | None = None,
) -> Bool[Array, " b *s"]:
    """Voxels whose whole element lies in the mask; beyond the border counts as mask.

    Arguments as of `dilate`.
    """
    return ~dilate(~mask, iterations, element=element)


def binary_open(
    mask: Bool[Array, " b *s"],
    iterations: Int[Array, " b"] | int = 1,
    *,
    element: Bool[np.ndarray, "..."] | None = None,
) -> Bool[Array, " b *s"]:
    """Erosion, then dilation: what is thinner than the element goes. Arguments as of `dilate`."""
    return dilate(erode(mask, iterations, element=element), iterations, element=element)


def binary_close(
    mask: Bool[Array, " b *s"],
    iterations: Int[Array, " b"] | int = 1,
    *,
    element: Bool[np.ndarray, "..."] | None = None,
) -> Bool[Array, " b *s"]:
    """Dilation, then erosion: gaps narrower than the element are filled; arguments as of `dilate`.

    Beyond the border counts as background while growing and as mask while shrinking.
    """
    grown = dilate(mask, iterations, element=element)
    return erode(grown, iterations, element=element)


def _offsets(mask, element) -> list[tuple[int, ...]]:
    axes = mask.ndim - 1
    if element is None:
        element = elliptical_element((3,) * axes)
    if element.ndim != axes:
        raise ValueError(f"element of {element.ndim} axes for masks of {axes}: give one each")
    middle = [n // 2 for n in element.shape]
    found = (tuple(int(i - m) for i, m in zip(place, middle)) for place in np.argwhere(element))
    return [offset for offset in found if any(offset)]


def _moved(mask, offset):
    """The mask shifted by whole voxels, false where it came from beyond the border."""
    pads = [(0, 0)] + [(max(o, 0), max(-o, 0)) for o in offset]
    cuts = [slice(None)]
    cuts += [slice(max(-o, 0), max(-o, 0) + n) for o, n in zip(offset, mask.shape[1:])]
    return jnp.pad(mask, pads)[tuple(cuts)]
