"""One door to convolution, 2D and 3D, on every platform.

Accelerators get ``lax.conv_general_dilated``, as do 2D images everywhere. On CPU, where XLA's 3D
convolution and its gradients are slow, `kernels/conv_cpu.py` builds the same operation from 2D
convolutions and matrix products.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.conv_cpu import Pads, conv_cpu, depth_to_space

Padding = Literal["SAME", "VALID", "REFLECT", "CIRCULAR", "EDGE"]
Backend = Literal["auto", "xla", "stacked"]

_PAD_MODE = {"REFLECT": "reflect", "CIRCULAR": "wrap", "EDGE": "edge"}
_PLATFORM: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


@contextlib.contextmanager
def target_platform(name: str | None) -> Iterator[None]:
    """Announces the platform a program is traced for where it is not this machine's.

    For ahead-of-time compilation: a step lowered on a CPU host for a TPU topology must not get the
    CPU formulation.
    """
    token = _PLATFORM.set(name)
    try:
        yield
    finally:
        _PLATFORM.reset(token)


def conv(
    x: Float[Array, "b *s ci"],
    kernel: Float[Array, "*k ci_g co"],
    *,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    groups: int = 1,
    backend: Backend = "auto",
) -> Float[Array, "b *s2 co"]:
    """Convolution (cross-correlation, as all networks mean it), channels last.

    Low-precision inputs are accumulated in float32: by the hardware on accelerators, explicitly in
    the CPU formulation. Differentiable any number of times in both modes.

    Args:
        x: images, 2D or 3D.
        kernel: weights ``[*taps, ci / groups, co]``.
        stride: step, one for all axes or one an axis.
        dilation: distance of the taps, likewise.
        padding: ``SAME`` zeros around the image, output size ``ceil(s / stride)``; ``VALID`` none;
            ``REFLECT``, ``CIRCULAR`` and ``EDGE`` have the size of ``SAME`` with the image mirrored
            (edge voxel not repeated), wrapped round, or its edge voxels repeated.
        groups: blocks of channels convolved apart; `ci` groups make it depthwise.
        backend: ``xla`` is plain `lax.conv_general_dilated`; ``stacked`` the CPU formulation;
            ``auto`` is ``stacked`` for 3D on CPU and ``xla`` elsewhere.

    Returns:
        Images ``[b, *s2, co]`` in the inputs' dtype.

    Raises:
        ValueError: shapes and settings do not fit.
    """
    n = x.ndim - 2
    if n not in (2, 3) or kernel.ndim != n + 2:
        raise ValueError(
            f"conv: image {x.shape} and kernel {kernel.shape} must be [b, *space, ci] and "
            "[*taps, ci/groups, co] with 2 or 3 axes of space"
        )
    if x.shape[-1] != kernel.shape[-2] * groups or kernel.shape[-1] % groups:
        raise ValueError(
            f"conv: {x.shape[-1]} input channels in {groups} groups do not fit kernel "
            f"{kernel.shape}; its last axes must be ({x.shape[-1]}/groups, a multiple of groups)"
        )
    strides, dilations = _each_axis("stride", stride, n), _each_axis("dilation", dilation, n)
    pads = _pads(padding, x.shape[1:-1], kernel.shape[:n], strides, dilations)
    if padding in _PAD_MODE:
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode=_PAD_MODE[padding])
        pads = ((0, 0),) * n
    span = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilations)]
    if any(s + a + b < k for s, (a, b), k in zip(x.shape[1:-1], pads, span)):
        raise ValueError(
            f"conv: kernel of extent {tuple(span)} does not fit into image {x.shape[1:-1]} with "
            f"padding {padding!r}; pad the image or use 'SAME'"
        )
    if backend == "stacked" or (backend == "auto" and n == 3 and _platform() == "cpu"):
        return conv_cpu(x, kernel, strides, pads, dilations, groups)
    letters = "DHW"[-n:]
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        rhs_dilation=dilations,
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        feature_group_count=groups,
    )


def conv_transpose(
    x: Float[Array, "b *s ci"], kernel: Float[Array, "*k ci co"]
) -> Float[Array, "b *s2 co"]:
    """Transposed convolution whose kernel is as wide as its stride: no overlaps, no checkerboard.

    ``y[s * i + t] = x[i] @ kernel[t]`` for taps ``t`` in ``[0, s)``; one matrix product and a
    rearrangement.

    Args:
        x: images, 2D or 3D.
        kernel: weights; its taps are the factors by which the axes grow.
    """
    n = x.ndim - 2
    if kernel.ndim != n + 2 or kernel.shape[-2] != x.shape[-1]:
        raise ValueError(
            f"conv_transpose: kernel {kernel.shape} must be [*factors, {x.shape[-1]}, co] with {n} "
            f"factors for image {x.shape}"
        )
    block, (ci, co) = kernel.shape[:n], kernel.shape[n:]
    flat = jnp.moveaxis(kernel.reshape(math.prod(block), ci, co), 0, 1).reshape(ci, -1)
    y = (x.reshape(-1, ci) @ flat).reshape(*x.shape[:-1], -1)
    return depth_to_space(y, block)


def _platform() -> str:
    announced = _PLATFORM.get()
    if announced is not None:
        return announced
    device = jax.config.jax_default_device
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def _each_axis(name: str, value: int | Sequence[int], n: int) -> tuple[int, ...]:
    values = (value,) * n if isinstance(value, int) else tuple(value)
    if len(values) != n or any(v < 1 for v in values):
        raise ValueError(f"conv: {name}={value} must be one int >= 1, or {n} of them")
    return values


def _pads(padding, size, taps, strides, dilations) -> Pads:
    span = [(k - 1) * d + 1 for k, d in zip(taps, dilations)]
    kind = "VALID" if padding == "VALID" else "SAME"
    return tuple(tuple(p) for p in lax.padtype_to_pads(size, span, strides, kind))
