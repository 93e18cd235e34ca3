"""3D convolution on CPU by kernels in C++ (``cpp/conv.cc``), float32.

Three primitives, each linear in both operands::

    conv(x, w)             y[i]  = sum_t x[s i + d t - p] w[t]
    input_gradient(g, w)   dx[j] = sum over i, t with s i + d t - p = j of g[i] w[t]^T
    kernel_gradient(x, g)  dw[t] = sum_i x[s i + d t - p]^T g[i]

for stride s, dilation d and padding p. Each is the transpose of the others in one operand, so the
three give derivatives of any order, forward and reverse, and never anything slower.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float32

from jaxmedgen.ops.kernels.native import register

SYMBOLS = ("Conv3d", "Conv3dInputGradient", "Conv3dKernelGradient")
Pads = tuple[tuple[int, int], ...]


def available() -> bool:
    """Whether the kernels can be called on this machine; builds them at the first question."""
    return register("conv", SYMBOLS)


def conv_native(
    x: Float32[Array, "b d h w ci"],
    kernel: Float32[Array, "kd kh kw ci co"],
    stride: tuple[int, ...],
    pads: Pads,
    dilation: tuple[int, ...],
) -> Float32[Array, "b d2 h2 w2 co"]:
    """Convolution (cross-correlation) of volumes.

    Args:
        x: images.
        kernel: weights.
        stride: step an axis.
        pads: zeros added (before, after) on each axis.
        dilation: distance of the kernel's taps on each axis.
    """
    sizes = zip(x.shape[1:4], pads, kernel.shape, dilation, stride)
    out = tuple((n + sum(p) - (k - 1) * d - 1) // s + 1 for n, p, k, d, s in sizes)
    before = tuple(a for a, _ in pads)
    return _conv.bind(
        x, kernel, size=out, stride=tuple(stride), dilation=tuple(dilation), before=before
    )


def input_gradient_native(
    g: Float32[Array, "b d h w co"],
    kernel: Float32[Array, "kd kh kw ci co"],
    size: tuple[int, ...],
    stride: tuple[int, ...],
    pads: Pads,
    dilation: tuple[int, ...],
) -> Float32[Array, "b d2 h2 w2 ci"]:
    """Transpose of `conv_native` in its input: the transposed convolution.

    Args:
        g: what has the shape of the convolution's output.
        kernel: weights of the convolution.
        size: voxels of the convolution's input on each axis.
        stride: step of the convolution.
        pads: its zeros.
        dilation: distance of its taps.
    """
    before = tuple(a for a, _ in pads)
    return _input_gradient.bind(
        g, kernel, size=tuple(size), stride=tuple(stride), dilation=tuple(dilation), before=before
    )


def _call(symbol: str, shape: Callable) -> Callable:
    def run(a, b, *, size, stride, dilation, before):
        target = jax.ffi.ffi_call(
            f"jaxmedgen_{symbol}", jax.ShapeDtypeStruct(shape(a, b, size), jnp.float32)
        )
        numbers = {"stride": stride, "dilation": dilation, "pad": before}
        return target(a, b, **{k: np.asarray(v, np.int64) for k, v in numbers.items()})

    return run


def _primitive(name: str, symbol: str, shape: Callable) -> Primitive:
    primitive = Primitive(f"jaxmedgen_{name}")
    run = _call(symbol, shape)

    def abstract(a, b, *, size, **_):
        if a.dtype != jnp.float32 or b.dtype != jnp.float32:
            raise ValueError(
                f"conv: backend='native' computes in float32, not {a.dtype} and {b.dtype}; "
                "use backend='auto'"
            )
        return jax.core.ShapedArray(shape(a, b, size), a.dtype)

    compiled = jax.jit(run, static_argnames=("size", "stride", "dilation", "before"))
    primitive.def_impl(compiled)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(run, multiple_results=False), platform="cpu")
    return primitive


# `size` is what the operands' shapes leave open: the space of the output, or the taps.
_conv = _primitive("conv", "Conv3d", lambda x, w, size: (x.shape[0], *size, w.shape[4]))
_input_gradient = _primitive(
    "conv_input_gradient",
    "Conv3dInputGradient",
    lambda g, w, size: (g.shape[0], *size, w.shape[3]),
)
_kernel_gradient = _primitive(
    "conv_kernel_gradient",
    "Conv3dKernelGradient",
    lambda x, g, size: (*size, x.shape[4], g.shape[4]),
)


def _space(unknown) -> tuple[int, ...]:
    return tuple(unknown.aval.shape[1:4])


def _taps(unknown) -> tuple[int, ...]:
    return tuple(unknown.aval.shape[:3])


def _in_first(to: Primitive, size: Callable, *, ct_first: bool) -> Callable:
    """Transpose in the first operand: `to` of the cotangent and the second one."""

    def rule(ct, unknown, known, **params):
        operands = (ct, known) if ct_first else (known, ct)
        return to.bind(*operands, **{**params, "size": size(unknown)})

    return rule


def _in_second(to: Primitive, size: Callable, *, ct_first: bool) -> Callable:
    """Transpose in the second operand: `to` of the cotangent and the first one."""
    rule = _in_first(to, size, ct_first=ct_first)
    return lambda ct, known, unknown, **params: rule(ct, unknown, known, **params)


ad.defbilinear(
    _conv,
    _in_first(_input_gradient, _space, ct_first=True),
    _in_second(_kernel_gradient, _taps, ct_first=False),
)
ad.defbilinear(
    _input_gradient,
    _in_first(_conv, _space, ct_first=True),
    _in_second(_kernel_gradient, _taps, ct_first=True),
)
ad.defbilinear(
    _kernel_gradient,
    _in_first(_input_gradient, _space, ct_first=False),
    _in_second(_conv, _space, ct_first=False),
)


def _batch_rule(primitive: Primitive, fold_a: Callable, fold_b: Callable) -> None:
    """One batched operand becomes a longer axis of one call; two are done in turn."""

    def rule(operands: Sequence, axes: Sequence, **params):
        (a, b), (i, j) = operands, axes
        run = functools.partial(primitive.bind, **params)
        if i is not None and j is not None:
            pairs = jnp.moveaxis(a, i, 0), jnp.moveaxis(b, j, 0)
            return lax.map(lambda pair: run(*pair), pairs), 0
        if i is not None:
            return fold_a(run, jnp.moveaxis(a, i, 0), b)
        return fold_b(run, a, jnp.moveaxis(b, j, 0))

    batching.primitive_batchers[primitive] = rule


def _joined(operand, axis):
    """[n, ..., c, ...] -> [..., n c, ...] at `axis` of the result."""
    merged = jnp.moveaxis(operand, 0, axis)
    return merged.reshape(*merged.shape[:axis], -1, *merged.shape[axis + 2 :])


def _apart(result, axis, count):
    """Inverse of `_joined` but for the place of the new axis, which is given back too."""
    shape = (*result.shape[:axis], count, -1, *result.shape[axis + 1 :])
    return result.reshape(shape), axis


def _fold(position: int, axis: int, result_axis: int) -> Callable:
    def fold(run, a, b):
        operands = [a, b]
        count = operands[position].shape[0]
        operands[position] = _joined(operands[position], axis)
        return _apart(run(*operands), result_axis, count)

    return fold


_batch_rule(_conv, _fold(0, 0, 0), _fold(1, 4, 4))
_batch_rule(_input_gradient, _fold(0, 0, 0), _fold(1, 3, 4))
_batch_rule(_kernel_gradient, _fold(0, 4, 3), _fold(1, 4, 4))
