"""One door to convolution, 2D and 3D, plain and transposed, on every platform.

Accelerators get ``lax.conv_general_dilated``. On CPU, where XLA's 3D convolution and its gradients
are slow, `kernels/conv_native.py` has kernels in C++, and `kernels/conv_cpu.py` builds the same
operation from 2D convolutions and matrix products. `_formulation` holds the rule.
"""

import math
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels import conv_native
from jaxmedgen.ops.kernels.conv_cpu import Pads, conv_cpu, depth_to_space, in_groups
from jaxmedgen.ops.kernels.conv_pallas import conv_pallas
from jaxmedgen.ops.kernels.platform import on_single_cpu, platform
from jaxmedgen.ops.padding import mirrored

Padding = Literal["SAME", "VALID", "REFLECT", "CIRCULAR", "EDGE"]
Backend = Literal["auto", "xla", "stacked", "native", "pallas"]

_PAD_MODE = {"REFLECT": "reflect", "CIRCULAR": "wrap", "EDGE": "edge"}
_NO_EDGES = ((0, 0, 0), (0, 0, 0))


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
    the CPU formulations. Differentiable any number of times in both modes.

    Args:
        x: images, 2D or 3D.
        kernel: weights ``[*taps, ci / groups, co]``.
        stride: step, one for all axes or one an axis.
        dilation: distance of the taps, likewise.
        padding: ``SAME`` zeros around the image, output size ``ceil(s / stride)``; ``VALID`` none;
            ``REFLECT``, ``CIRCULAR`` and ``EDGE`` have the size of ``SAME`` with the image mirrored
            (edge voxel not repeated), wrapped round, or its edge voxels repeated.
        groups: blocks of channels convolved apart; `ci` groups make it depthwise.
        backend: ``xla`` is plain `lax.conv_general_dilated`; ``native`` the C++ kernels (CPU,
            float32 or narrower); ``stacked`` 2D convolutions in place of a 3D one; ``pallas`` the
            GPU or TPU kernel (3D, stride 1, odd taps, ``SAME``; reverse mode only; never measured);
            ``auto`` the fastest that the platform, the shape and the type allow.

    Returns:
        Images ``[b, *s2, co]`` in the inputs' dtype.

    Raises:
        ValueError: shapes and settings do not fit.
    """
    n = _check("conv", x, kernel, groups)
    strides = _each_axis("conv", "stride", stride, n)
    dilations = _each_axis("conv", "dilation", dilation, n)
    span = _span(kernel, dilations)
    pads = _pads(padding, x.shape[1:-1], span, strides)
    if padding in _PAD_MODE:
        most = [s - 1 if padding == "REFLECT" else s for s in x.shape[1:-1]]
        if padding != "EDGE" and any(max(p) > m for p, m in zip(pads, most)):
            raise ValueError(
                f"conv: kernel of extent {span} is too large for image {x.shape[1:-1]} with "
                f"padding {padding!r}; take a smaller kernel or padding 'SAME'"
            )
        if padding == "REFLECT":
            x = mirrored(x, pads)
        else:
            x = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode=_PAD_MODE[padding])
        pads = ((0, 0),) * n
    if any(s + a + b < k for s, (a, b), k in zip(x.shape[1:-1], pads, span)):
        raise ValueError(
            f"conv: kernel of extent {span} does not fit into image {x.shape[1:-1]} with "
            f"padding {padding!r}; pad the image or use 'SAME'"
        )
    return _conv(x, kernel, strides, pads, dilations, groups, backend)


def conv_transpose(
    x: Float[Array, "b *s ci"],
    kernel: Float[Array, "*k ci_g co"],
    *,
    stride: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    groups: int = 1,
    backend: Backend = "auto",
) -> Float[Array, "b *s2 co"]:
    """Transposed convolution: ``y[s i + d t - p] += x[i] @ kernel[t]`` over voxels i and taps t.

    The adjoint of `conv` with the same settings and the kernel's channels exchanged; PyTorch's
    definition (taps not mirrored). A kernel as wide as its stride has no overlaps and so no
    checkerboard. Nowhere is this XLA's convolution with a dilated input, whose gradients are slow
    on GPU (jax issue 31662): the s phases of the output are channels of one dense convolution of
    stride 1, then moved into space.

    Args:
        x: images, 2D or 3D.
        kernel: weights ``[*taps, ci / groups, co]``.
        stride: factor by which the axes grow, one for all or one an axis; default: the taps.
        dilation: distance of the taps.
        padding: ``SAME``: output size ``s * stride``; ``VALID``: the whole extent,
            ``s * stride + max(extent - stride, 0)``.
        groups: blocks of channels convolved apart.
        backend: as `conv`.

    Returns:
        Images ``[b, *s2, co]`` in the inputs' dtype.

    Raises:
        ValueError: shapes and settings do not fit.
    """
    n = _check("conv_transpose", x, kernel, groups)
    if padding not in ("SAME", "VALID"):
        raise ValueError(f"conv_transpose: padding={padding!r} must be 'SAME' or 'VALID'")
    taps = kernel.shape[:n]
    strides = _each_axis("conv_transpose", "stride", taps if stride is None else stride, n)
    dilations = _each_axis("conv_transpose", "dilation", dilation, n)
    span = _span(kernel, dilations)
    grown = tuple(m * s for m, s in zip(x.shape[1:-1], strides))
    if padding == "VALID":
        grown = tuple(m + max(k - s, 0) for m, k, s in zip(grown, span, strides))
    pads = _pads(padding, grown, span, strides)
    dtype = jnp.result_type(x, kernel)
    # Without overlaps and gaps it is one matrix product.
    product = all(k <= s for k, s in zip(span, strides))
    if groups == 1 and _formulation(backend, n, dtype, product) == "native":
        x, adjoint = x.astype(jnp.float32), jnp.swapaxes(kernel, -1, -2).astype(jnp.float32)
        if n == 3:
            y = conv_native.input_gradient_native(x, adjoint, grown, strides, pads, dilations)
        else:
            planes = (1, *grown), (1, *strides), ((0, 0), *pads), (1, *dilations)
            y = conv_native.input_gradient_native(x[:, None], adjoint[None], *planes)[:, 0]
        return y.astype(dtype)
    kernel = lax.pad(
        kernel, jnp.zeros((), kernel.dtype), [*((0, 0, d - 1) for d in dilations), *_NO_EDGES]
    )
    return _by_phases(x, kernel, strides, [a for a, _ in pads], grown, groups, backend)


def _by_phases(x, kernel, strides, before, size, groups, backend):
    """Phases of the output as channels of a dense convolution, then moved into space."""
    n = len(strides)
    coarse = [-(-k // s) for k, s in zip(kernel.shape, strides)]
    ci, co = kernel.shape[n], kernel.shape[n + 1] // groups
    edges = [(0, c * s - k, 0) for c, s, k in zip(coarse, strides, kernel.shape)]
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), [*edges, *_NO_EDGES])
    split = [v for c, s in zip(coarse, strides) for v in (c, s)]
    kernel = kernel.reshape(*split, ci, groups, co)
    # [*coarse, ci, groups, *phases, co], taps mirrored: a later tap reaches an earlier voxel.
    kernel = kernel.transpose(
        *range(0, 2 * n, 2), 2 * n, 2 * n + 1, *range(1, 2 * n, 2), 2 * n + 2
    )[(slice(None, None, -1),) * n]
    phases = math.prod(strides)
    kernel = kernel.reshape(*coarse, ci, groups * phases * co)
    if all(c == 1 for c in coarse) and groups == 1:
        y = (x.reshape(-1, ci) @ kernel.reshape(ci, -1)).reshape(*x.shape[:-1], -1)
    else:
        around = tuple((c - 1, c - 1) for c in coarse)
        y = _conv(x, kernel, (1,) * n, around, (1,) * n, groups, backend)
    y = jnp.swapaxes(y.reshape(*y.shape[:-1], groups, phases, co), -2, -3)
    y = depth_to_space(y.reshape(*y.shape[:-3], -1), strides)
    crop = [(-a, m + a - long, 0) for a, m, long in zip(before, size, y.shape[1:-1])]
    return lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *crop, (0, 0, 0)])


def _conv(x, kernel, strides, pads, dilations, groups, backend):
    n = len(strides)
    dtype = jnp.result_type(x, kernel)
    product = math.prod(kernel.shape[:n]) == 1 == math.prod(strides)
    form = _formulation(backend, n, dtype, product)
    if form == "xla":
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
    if form == "pallas":
        return conv_pallas(x, kernel, strides, pads, dilations, groups, platform())
    if form == "stacked":

        def dense(x, kernel):
            return conv_cpu(x, kernel, strides, pads, dilations)

    else:
        x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)

        def dense(x, kernel):
            if n == 3:
                return conv_native.conv_native(x, kernel, strides, pads, dilations)
            settings = (1, *strides), ((0, 0), *pads), (1, *dilations)
            return conv_native.conv_native(x[:, None], kernel[None], *settings)[:, 0]

    y = dense(x, kernel) if groups == 1 else in_groups(dense, x, kernel, groups)
    return y.astype(dtype)


def _formulation(backend: Backend, n: int, dtype: jnp.dtype, product: bool) -> Backend:
    """The rule which backend a static shape and type get; measured by benchmarks/ops/conv.py.

    A `product`, which is one matrix product over all voxels, needs no kernel of its own. The native
    kernels are opaque to XLA's partitioner, so that several devices in one process get XLA's forms.
    """
    if backend == "native":
        if dtype == jnp.float64:
            raise ValueError("conv: backend='native' has no float64; use backend='auto'")
        if platform() != "cpu" or not conv_native.available():
            raise ValueError(
                f"conv: backend='native' cannot run on {platform()!r} or without a C++ compiler; "
                "use backend='auto'"
            )
        return backend
    if backend != "auto":
        return backend
    if platform() != "cpu":
        return "xla"
    if on_single_cpu() and dtype != jnp.float64 and conv_native.available():
        return "stacked" if product else "native"
    return "stacked" if n == 3 else "xla"


def _check(name, x, kernel, groups) -> int:
    n = x.ndim - 2
    if n not in (2, 3) or kernel.ndim != n + 2:
        raise ValueError(
            f"{name}: image {x.shape} and kernel {kernel.shape} must be [b, *space, ci] and "
            "[*taps, ci/groups, co] with 2 or 3 axes of space"
        )
    if groups < 1 or x.shape[-1] != kernel.shape[-2] * groups or kernel.shape[-1] % groups:
        raise ValueError(
            f"{name}: {x.shape[-1]} input channels in groups={groups} do not fit kernel "
            f"{kernel.shape}; its last axes must be ({x.shape[-1]}/groups, a multiple of groups)"
        )
    return n


def _each_axis(name: str, what: str, value: int | Sequence[int], n: int) -> tuple[int, ...]:
    values = (value,) * n if isinstance(value, int) else tuple(value)
    if len(values) != n or any(v < 1 for v in values):
        raise ValueError(f"{name}: {what}={value} must be one int >= 1, or {n} of them")
    return values


def _span(kernel, dilations) -> tuple[int, ...]:
    return tuple((k - 1) * d + 1 for k, d in zip(kernel.shape, dilations))


def _pads(padding, size, span, strides) -> Pads:
    kind = "VALID" if padding == "VALID" else "SAME"
    return tuple(tuple(p) for p in lax.padtype_to_pads(size, span, strides, kind))
