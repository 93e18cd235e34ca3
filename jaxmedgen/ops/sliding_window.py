"""Sliding-window inference that streams: memory is one slab of logits, never the whole volume.

Windows lie on a regular grid and are visited in order of their start along the first axis. Their
logits are blended into a slab as thick as one window. As soon as no later window touches a plane,
the plane is reduced to labels and leaves the slab. Blending whole-volume logits instead costs
22.9 GB for 100 classes at 384^3 (MONAI issue 6427); the slab of a 96^3 window costs a quarter, and
`inference_plan` tells the size before anything runs. Grid and Gaussian weights are those of nnU-Net
(Isensee et al., Nature Methods 2021, `sliding_window_prediction.py`).
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, Shaped

Blend = Literal["gaussian", "constant"]
Reduce = Literal["argmax", "probabilities", "mean"]


class InferenceAborted(Exception):
    """`abort` asked to stop; the message tells how far inference came."""


@dataclasses.dataclass(frozen=True)
class InferencePlan:
    """What sliding-window inference on one volume will do.

    Attributes:
        padded_shape: the volume's shape, padded to at least one window.
        starts: window starts along every axis.
        windows: number of windows.
        batches: number of calls of the network.
        slab_shape: shape of the blended logits that are held at once, without channels.
    """

    padded_shape: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]
    windows: int
    batches: int
    slab_shape: tuple[int, ...]

    def slab_bytes(self, channels: int) -> int:
        """Bytes of the float32 slab for so many output channels."""
        return 4 * channels * math.prod(self.slab_shape)


def inference_plan(
    shape: Sequence[int],
    patch_size: Sequence[int],
    *,
    overlap: float | int = 0.5,
    batch_size: int = 1,
) -> InferencePlan:
    """The window grid: evenly spaced starts, neighbours overlap by at least `overlap`.

    Raises:
        ValueError: sizes that do not fit, an overlap outside [0, 1).
    """
    if len(shape) != len(patch_size):
        raise ValueError(f"patch_size {tuple(patch_size)} does not fit a volume of {tuple(shape)}")
    if min(*shape, *patch_size, batch_size) < 1:
        raise ValueError(
            f"volume {tuple(shape)}, patch_size {tuple(patch_size)} and batch_size {batch_size} "
            "must be positive"
        )
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap}: must be in [0, 1)")
    padded = tuple(max(n, p) for n, p in zip(shape, patch_size))
    starts = []
    for size, patch in zip(padded, patch_size):
        step = max(1, int(patch * (1 - overlap)))
        count = math.ceil((size - patch) / step) + 1
        starts.append(tuple(round(s) for s in np.linspace(0, size - patch, count)))
    windows = math.prod(len(s) for s in starts)
    return InferencePlan(
        padded_shape=padded,
        starts=tuple(starts),
        windows=windows,
        batches=math.ceil(windows / batch_size),
        slab_shape=(patch_size[0], *padded[1:]),
    )


def importance(
    patch_size: Sequence[int], blend: Blend = "gaussian"
) -> tuple[Float[np.ndarray, " n"], ...]:
    """Blending weights of a window, one positive profile an axis; their outer product is the map.

    ``gaussian``: sigma is an eighth of the window (nnU-Net), so that a voxel listens most to the
    window in whose middle it lies. ``constant``: plain average.
    """
    if blend == "constant":
        return tuple(np.ones(n, np.float32) for n in patch_size)
    if blend != "gaussian":
        raise ValueError(f"blend is {blend!r}: must be 'gaussian' or 'constant'")
    return tuple(
        np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2).astype(np.float32)
        for n in patch_size
    )


def sliding_window_inference(
    predict: Callable[[Float[Array, " b *p c"]], Float[Array, " b *p k"]],
    volume: Num[np.ndarray, "*s c"] | Num[Array, "*s c"],
    patch_size: Sequence[int],
    *,
    overlap: float | int = 0.5,
    blend: Blend = "gaussian",
    batch_size: int = 1,
    reduce: Reduce = "argmax",
    abort: Callable[[], bool] | None = None,
) -> Int[np.ndarray, "*s"] | Float[np.ndarray, "*s k"]:
    """Runs a network over a 2D or 3D image in overlapping windows.

    `predict` is called with one fixed shape ``[batch_size, *patch_size, c]`` (the last batch is
    padded), so that a jitted function compiles once for all volumes. If it shards its batch over
    devices, so are the windows.

    Args:
        predict: windows to logits, channels last. Usually ``jax.jit`` of the network in eval mode.
        volume: one image, no batch axis. A numpy array stays on the host; only windows move.
        patch_size: window size, one number a spatial axis. An image smaller than the window is
            padded with each channel's lowest value, as in training, and the result is cropped.
        overlap: least overlap of neighbouring windows as a share of the window.
        blend: how overlapping logits are averaged, see `importance`.
        batch_size: windows a call.
        reduce: ``argmax``: int32 labels ``[*s]``. ``probabilities``: softmax of the blended logits,
            float32 ``[*s, k]``. ``mean``: the blended outputs themselves (images, regressions).
        abort: polled before every call of `predict`; True stops.

    Raises:
        ValueError: arguments that do not fit together, or `predict` returns another shape.
        InferenceAborted: `abort` returned True.
    """
    if reduce not in ("argmax", "probabilities", "mean"):
        raise ValueError(f"reduce is {reduce!r}: must be 'argmax', 'probabilities' or 'mean'")
    shape = volume.shape[:-1]
    plan = inference_plan(shape, patch_size, overlap=overlap, batch_size=batch_size)
    margins = [((n - s) // 2, -(-(n - s) // 2)) for n, s in zip(plan.padded_shape, shape)]
    if any(any(m) for m in margins):
        volume = _padded(np.asarray(volume), plan.padded_shape, [low for low, _ in margins])
    planes = _reduced_planes(
        predict, volume, plan, tuple(patch_size), blend, batch_size, reduce, abort
    )
    inner = tuple(slice(low, low + n) for (low, _), n in zip(margins[1:], shape[1:]))
    result, top = None, -margins[0][0]
    for planes_done in planes:
        reduced = planes_done[(slice(None), *inner)]
        if result is None:
            result = np.empty((*shape, *reduced.shape[len(shape) :]), reduced.dtype)
        low, high = max(top, 0), min(top + len(reduced), shape[0])
        result[low:high] = reduced[low - top : high - top]
        top += len(reduced)
    return result


def _reduced_planes(
    predict: Callable,
    volume: Shaped[np.ndarray, "*s c"] | Shaped[Array, "*s c"],
    plan: InferencePlan,
    patch_size: tuple[int, ...],
    blend: Blend,
    batch_size: int,
    reduce: Reduce,
    abort: Callable[[], bool] | None,
) -> Iterator[np.ndarray]:
    """Finished planes, reduced and on the host, from first to last."""
    profiles = importance(patch_size, blend)
    totals = [_total_weight(*axis) for axis in zip(plan.starts, profiles, plan.padded_shape)]
    window_weight = functools.reduce(np.multiply.outer, profiles)[..., None]
    across = jnp.asarray(functools.reduce(np.multiply.outer, totals[1:], np.float32(1))[..., None])
    corners = itertools.product(*plan.starts)
    slab, top, done = None, 0, 0
    while batch := tuple(itertools.islice(corners, batch_size)):
        if abort is not None and abort():
            raise InferenceAborted(f"inference stopped after {done} of {plan.windows} windows")
        windows = np.stack([_window(volume, corner, patch_size) for corner in batch])
        windows = np.pad(
            windows, [(0, batch_size - len(batch))] + [(0, 0)] * (windows.ndim - 1), mode="edge"
        )
        logits = predict(jnp.asarray(windows))
        if logits.shape[:-1] != windows.shape[:-1]:
            raise ValueError(
                f"predict returned {logits.shape} for windows {windows.shape}: "
                "it must keep the batch and the spatial shape"
            )
        if slab is None:
            slab = jnp.zeros((*plan.slab_shape, logits.shape[-1]), jnp.float32)
        for i, corner in enumerate(batch):
            if corner[0] > top:
                yield np.asarray(_reduce(slab, totals[0][top : corner[0]], across, reduce))
                slab, top = _advance(slab, corner[0] - top), corner[0]
            slab = _add(slab, logits, window_weight, i, corner[1:])
        done += len(batch)
    yield np.asarray(_reduce(slab, totals[0][top:], across, reduce))


def _padded(
    volume: Shaped[np.ndarray, "*s c"], shape: tuple[int, ...], start: Sequence[int]
) -> Shaped[np.ndarray, "*t c"]:
    """The volume from voxel `start` of a larger one on, in air: each channel's lowest value.

    Repeated edges would show a body that goes on, which `Preprocessing` and `random_patch` never
    do: networks answer them otherwise, far into the volume.
    """
    padded = np.empty((*shape, volume.shape[-1]), volume.dtype)
    padded[...] = volume.min(axis=tuple(range(volume.ndim - 1)))
    padded[tuple(slice(a, a + n) for a, n in zip(start, volume.shape[:-1]))] = volume
    return padded


def _window(
    volume: Shaped[np.ndarray, "*s c"] | Shaped[Array, "*s c"],
    corner: tuple[int, ...],
    patch_size: tuple[int, ...],
) -> np.ndarray:
    return np.asarray(volume[tuple(slice(c, c + p) for c, p in zip(corner, patch_size))])


def _total_weight(
    starts: tuple[int, ...], profile: Float[np.ndarray, " p"], size: int
) -> Float[np.ndarray, " n"]:
    """Sum of all windows' profiles along one axis; the sum over the grid is their product."""
    total = np.zeros(size, np.float32)
    for start in starts:
        total[start : start + len(profile)] += profile
    return total


@functools.partial(jax.jit, donate_argnums=0)
def _add(
    slab: Float[Array, "*s k"],
    logits: Num[Array, "b *p k"],
    weight: Float[Array, "*p 1"],
    index: Int[Array, ""] | int,
    corner: tuple[Int[Array, ""] | int, ...],
) -> Float[Array, "*s k"]:
    """Adds one weighted window of the batch at `corner` of the last spatial axes."""
    window = jax.lax.dynamic_index_in_dim(logits, index, keepdims=False).astype(jnp.float32)
    start = (0, *corner, 0)
    before = jax.lax.dynamic_slice(slab, start, window.shape)
    return jax.lax.dynamic_update_slice(slab, before + weight * window, start)


@functools.partial(jax.jit, donate_argnums=0)
def _advance(slab: Float[Array, "*s k"], count: Int[Array, ""] | int) -> Float[Array, "*s k"]:
    """Moves the slab on by `count` planes, in place: those that come in are zero."""
    depth = slab.shape[0]

    def move(i: Int[Array, ""], slab: Float[Array, "*s k"]) -> Float[Array, "*s k"]:
        source = jnp.minimum(i + count, depth - 1)
        plane = jax.lax.dynamic_index_in_dim(slab, source, keepdims=False)
        plane = jnp.where(i + count < depth, plane, 0.0)
        return jax.lax.dynamic_update_index_in_dim(slab, plane, i, 0)

    return jax.lax.fori_loop(0, depth, move, slab)


@functools.partial(jax.jit, static_argnums=3)
def _reduce(
    slab: Float[Array, "*s k"],
    along: Float[np.ndarray, " n"] | Float[Array, " n"],
    across: Float[Array, "*p 1"],
    reduce: Reduce,
) -> Shaped[Array, " n *r"]:
    """The first n planes, reduced one at a time so that the slab is never copied.

    `along` and `across` are the summed weights of these planes and within a plane.
    """

    def plane(i: Int[Array, ""]) -> Array:
        logits = jax.lax.dynamic_index_in_dim(slab, i, keepdims=False)
        if reduce == "argmax":  # Dividing by a positive weight moves no maximum.
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        blended = logits / (jnp.asarray(along)[i] * across)
        return jax.nn.softmax(blended, axis=-1) if reduce == "probabilities" else blended

    return jax.lax.map(plane, jnp.arange(along.shape[0]))
