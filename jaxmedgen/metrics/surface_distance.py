"""Distances between the surfaces of two masks, in mm, weighted by surface area (host side).

A surface element (surfel) stands for every 2x2 (2D) or 2x2x2 (3D) block of voxels that the mask
fills partly. Its size is the length or area of the marching-squares or marching-cubes patch of that
block, in mm, so that neither a fine axis nor a staircase counts more than the surface it stands
for; its position is the centroid of that patch. The weighting is the recipe of DeepMind's
surface-distance library (Nikolov et al., "Deep learning to achieve clinically applicable
segmentation of head and neck anatomy", 2018). That library places surfels at block centres, which
makes surfaces half a voxel thick: two balls of radius 15 mm moved apart by 1.3 mm (true ASSD 0.65)
come out as 0.43 there and as 0.66 here. Tools that count border voxels instead disagree on
anisotropic images (arXiv 2410.02630).
"""

import dataclasses
import functools
import itertools

import numpy as np
import scipy.ndimage
import scipy.spatial
import skimage.measure
from jaxtyping import Bool, Float

Spacing = tuple[float | int, ...]
"""Voxel size in mm, one number a spatial axis."""


@dataclasses.dataclass(frozen=True)
class SurfaceDistances:
    """Distances from every surfel of one mask to the nearest surfel of the other, both ways.

    Attributes:
        to_reference: distances in mm from the prediction's surfels to the reference's surface.
        to_prediction: distances in mm from the reference's surfels to the prediction's surface.
        prediction_sizes: sizes (mm or mm^2) of the prediction's surfels.
        reference_sizes: sizes of the reference's surfels.
    """

    to_reference: Float[np.ndarray, " p"]
    to_prediction: Float[np.ndarray, " r"]
    prediction_sizes: Float[np.ndarray, " p"]
    reference_sizes: Float[np.ndarray, " r"]

    def hausdorff(self, percentile: float | int = 100) -> float:
        """Larger of the two directed distances at `percentile` of the surface (95: HD95)."""
        return max(
            _weighted_percentile(self.to_reference, self.prediction_sizes, percentile),
            _weighted_percentile(self.to_prediction, self.reference_sizes, percentile),
        )

    def average(self) -> float:
        """Average symmetric surface distance (ASSD): mean over both surfaces by their area."""
        total = self.prediction_sizes.sum() + self.reference_sizes.sum()
        path = self.to_reference @ self.prediction_sizes + self.to_prediction @ self.reference_sizes
        return float(path / total)

    def surface_dice(self, tolerance: float | int) -> float:
        """Share of both surfaces that lies within `tolerance` mm of the other one (NSD)."""
        total = self.prediction_sizes.sum() + self.reference_sizes.sum()
        near = self.prediction_sizes[self.to_reference <= tolerance].sum()
        near += self.reference_sizes[self.to_prediction <= tolerance].sum()
        return float(near / total)


def surface_distances(
    prediction: Bool[np.ndarray, "*s"], reference: Bool[np.ndarray, "*s"], spacing: Spacing
) -> SurfaceDistances:
    """Surfel-to-surface distances of two non-empty masks, 2D or 3D.

    The outside of the image counts as background: a mask that touches the edge is closed there.

    Raises:
        ValueError: a mask is empty (there is no distance to nothing; see
            `segmentation.evaluate_case` for the policy on missed structures).
    """
    for name, mask in (("prediction", prediction), ("reference", reference)):
        if not mask.any():
            raise ValueError(f"{name} mask is empty: surface distances need two surfaces")
    box = scipy.ndimage.find_objects((prediction | reference).astype(np.uint8))[0]
    predicted, predicted_sizes = surfels(prediction[box], spacing)
    true, true_sizes = surfels(reference[box], spacing)
    return SurfaceDistances(
        to_reference=_tree(true).query(predicted)[0],
        to_prediction=_tree(predicted).query(true)[0],
        prediction_sizes=predicted_sizes,
        reference_sizes=true_sizes,
    )


def surfels(
    mask: Bool[np.ndarray, "*s"], spacing: Spacing
) -> tuple[Float[np.ndarray, "p n"], Float[np.ndarray, " p"]]:
    """Positions in mm (voxel 0 at the origin) and sizes in mm or mm^2 of a mask's surfels."""
    codes = _corner_codes(mask)
    blocks = np.nonzero((codes > 0) & (codes < 2 ** (2**mask.ndim) - 1))
    patch = codes[blocks]
    sizes, centroids = _patches(tuple(float(s) for s in spacing))
    # The first block starts at the padding, voxel -1.
    return (np.stack(blocks, axis=1) - 1) * np.asarray(spacing) + centroids[patch], sizes[patch]


def surface_size(mask: Bool[np.ndarray, "*s"], spacing: Spacing) -> float:
    """Length (2D, mm) or area (3D, mm^2) of the mask's marching-squares/cubes surface."""
    return float(surfels(mask, spacing)[1].sum())


def _corner_codes(mask: Bool[np.ndarray, "*s"]) -> np.ndarray:
    """For every 2^n block of the padded mask, its corners as bits of one number."""
    padded = np.pad(mask, 1).astype(np.uint8)
    codes = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for bit, corner in enumerate(itertools.product((0, 1), repeat=mask.ndim)):
        block = padded[tuple(slice(c, c + n + 1) for c, n in zip(corner, mask.shape))]
        codes |= block << bit
    return codes


@functools.lru_cache(maxsize=64)
def _patches(
    spacing: tuple[float, ...],
) -> tuple[Float[np.ndarray, " codes"], Float[np.ndarray, "codes n"]]:
    """Size and centroid of the surface patch in a block of 2^n voxels, for each of its fillings."""
    n = len(spacing)
    sizes, centroids = np.zeros(2 ** (2**n)), np.zeros((2 ** (2**n), n))
    for code in range(1, len(sizes) - 1):
        corners = (code >> np.arange(2**n)) & 1
        pieces, middles = _pieces(corners.reshape((2,) * n).astype(np.float64), spacing)
        sizes[code] = pieces.sum()
        centroids[code] = pieces @ middles / pieces.sum()
    return sizes, centroids


def _pieces(
    block: Float[np.ndarray, "*s"], spacing: tuple[float, ...]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "p n"]]:
    """Sizes and midpoints of the segments (2D) or triangles (3D) of the level set 1/2."""
    if block.ndim == 2:
        lines = [line * spacing for line in skimage.measure.find_contours(block, 0.5)]
        steps = np.concatenate([np.diff(line, axis=0) for line in lines])
        middles = np.concatenate([(line[1:] + line[:-1]) / 2 for line in lines])
        return np.linalg.norm(steps, axis=1), middles
    vertices, faces, *_ = skimage.measure.marching_cubes(block, 0.5, spacing=spacing)
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2, (a + b + c) / 3


def _weighted_percentile(
    distances: Float[np.ndarray, " n"], sizes: Float[np.ndarray, " n"], percentile: float | int
) -> float:
    """Smallest distance within which `percentile` percent of the surface lies."""
    order = np.argsort(distances)
    share = np.cumsum(sizes[order]) / sizes.sum()
    index = np.searchsorted(share, percentile / 100 - 1e-12)
    return float(distances[order][min(index, len(order) - 1)])


def _tree(points: Float[np.ndarray, "p n"]) -> scipy.spatial.cKDTree:
    # Points of a grid tie often: splitting at the middle builds faster than at the median.
    return scipy.spatial.cKDTree(points, balanced_tree=False, compact_nodes=False)
