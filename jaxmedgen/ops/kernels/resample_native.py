"""Sampling at arbitrary coordinates by a C++ kernel on CPU, differentiable any number of times.

Sampling is linear in the image, and its derivative is linear in the directions of image and
coordinates. Four primitives carry that structure, in pairs of transposes:

    sample   image -> values                      spread   cotangent -> gradient of the image
    push     directions -> change of the values   pull     cotangent -> gradients of both

Forward mode of `sample` is `push`, so first derivatives in both modes are kernels: the backward
pass is one scan of the points that gathers the coordinates' gradient and scatters the image's. The
derivatives of push, pull and spread in their other arguments, second derivatives of the sample,
are those of `sample_xla`.

Lowered for anything but a CPU, the primitives are plain XLA: a step compiled on this machine for
another platform needs no other code.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.native import register
from jaxmedgen.ops.kernels.resample_xla import MODES, Mode, sample_xla

_SYMBOLS = (
    "ResampleForward",
    "ResampleImageGradient",
    "ResampleCoordinateGradient",
    "ResampleGradients",
)


def available() -> bool:
    """Whether the kernel could be built on this machine."""
    return register("resample", _SYMBOLS)


def fits(image: jax.Array, x: jax.Array) -> bool:
    """Whether the kernel takes these arrays: float32, not empty, offsets of 31 bits in a sample."""
    single = image.dtype == x.dtype == jnp.float32
    return single and 0 < image.size < 2**31 * image.shape[0] and x.size > 0


def sample_native(
    image: Float[Array, " b *s c"], x: Float[Array, " b p n"], *, order: int, mode: Mode
) -> Float[Array, " b p c"]:
    """The same as `sample_xla`, for arrays that `fits`."""
    return _sample.bind(image, x, order=order, mode=mode)[0]


def _call(symbol, shapes, arrays, order, mode):
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    call = jax.ffi.ffi_call(f"jaxmedgen_{symbol}", results)
    return call(*arrays, order=np.int64(order), mode=np.int64(MODES.index(mode)))


def _sample_impl(image, x, *, order, mode):
    return _call("ResampleForward", [(*x.shape[:2], image.shape[-1])], (image, x), order, mode)


def _spread_impl(x, g, *, shape, order, mode):
    whole = (g.shape[0], *shape, g.shape[-1])
    return _call("ResampleImageGradient", [whole], (x, g), order, mode)


def _push_impl(image, x, dx, *dimage, order, mode):
    # Forward mode is rare, and XLA gathers well: no kernel of its own for the slopes.
    slope = functools.partial(sample_xla, image, order=order, mode=mode)
    change = jax.jvp(slope, (x,), (dx,))[1]
    for direction in dimage:
        change = change + sample_native(direction, x, order=order, mode=mode)
    return [change]


def _pull_impl(image, x, g, *, both, order, mode):
    if both:
        return _call("ResampleGradients", [image.shape, x.shape], (image, x, g), order, mode)
    return _call("ResampleCoordinateGradient", [x.shape], (image, x, g), order, mode)


def _sample_reference(image, x, *, order, mode):
    return [sample_xla(image, x, order=order, mode=mode)]


def _spread_reference(x, g, *, shape, order, mode):
    zeros = jnp.zeros((g.shape[0], *shape, g.shape[-1]), g.dtype)
    sample = functools.partial(sample_xla, x=x, order=order, mode=mode)
    return list(jax.vjp(sample, zeros)[1](g))


def _push_reference(image, x, dx, *dimage, order, mode):
    sample = functools.partial(sample_xla, order=order, mode=mode)
    direction = dimage[0] if dimage else jnp.zeros_like(image)
    return [jax.jvp(sample, (image, x), (direction, dx))[1]]


def _pull_reference(image, x, g, *, both, order, mode):
    sample = functools.partial(sample_xla, order=order, mode=mode)
    gradients = jax.vjp(sample, image, x)[1](g)
    return list(gradients) if both else [gradients[1]]


def _is_zero(tangent) -> bool:
    return type(tangent) is ad.Zero


def _derivative(image, x, dimage, dx, *, order, mode):
    """Change of the samples along directions, of which one may be a symbolic zero."""
    if order == 0 or _is_zero(dx):
        if _is_zero(dimage):  # nearest neighbours do not follow small motions
            return [jnp.zeros((*x.shape[:2], image.shape[-1]), x.dtype)]
        return _sample.bind(dimage, x, order=order, mode=mode)
    moving = () if _is_zero(dimage) else (dimage,)
    return _push.bind(image, x, dx, *moving, order=order, mode=mode)


def _sample_jvp(primals, tangents, **setting):
    out = _sample.bind(*primals, **setting)
    return out, _derivative(*primals, *tangents, **setting)


def _spread_jvp(primals, tangents, **setting):
    (x, g), (dx, dg) = primals, tangents
    linear = None if _is_zero(dg) else _spread.bind(x, dg, **setting)
    rest = _curvature(_spread_reference, (x,), (dx,), (g,), setting)
    return _spread.bind(x, g, **setting), _total(linear, rest)


def _push_jvp(primals, tangents, **setting):
    image, x, *directions = primals
    ddx, *ddimage = tangents[2:]
    ddimage = ddimage[0] if ddimage else ad.Zero(jax.typeof(image).to_tangent_aval())
    linear = None
    if not (_is_zero(ddx) and _is_zero(ddimage)):
        linear = _derivative(image, x, ddimage, ddx, **setting)
    rest = _curvature(_push_reference, (image, x), tangents[:2], directions, setting)
    return _push.bind(*primals, **setting), _total(linear, rest)


def _pull_jvp(primals, tangents, **setting):
    image, x, g = primals
    linear = None if _is_zero(tangents[2]) else _pull.bind(image, x, tangents[2], **setting)
    rest = _curvature(_pull_reference, (image, x), tangents[:2], (g,), setting)
    return _pull.bind(*primals, **setting), _total(linear, rest)


def _curvature(reference, primals, tangents, fixed, setting):
    """Derivative of a reference in those arguments that do not enter it linearly."""
    if all(_is_zero(t) for t in tangents):
        return None
    moved = functools.partial(reference, **setting)
    directions = tuple(ad.instantiate_zeros(t) for t in tangents)
    return jax.jvp(lambda *arrays: moved(*arrays, *fixed), primals, directions)[1]


def _total(linear, rest):
    if linear is None or rest is None:
        return rest if linear is None else linear
    return [a + b for a, b in zip(linear, rest)]


def _sample_transpose(cotangents, image, x, **setting):
    shape = image.aval.shape[1:-1]
    return [*_spread.bind(x, cotangents[0], shape=shape, **setting), None]


def _spread_transpose(cotangents, x, g, *, shape, **setting):
    return [None, *_sample.bind(cotangents[0], x, **setting)]


def _push_transpose(cotangents, image, x, dx, *dimage, **setting):
    both = bool(dimage) and ad.is_undefined_primal(dimage[0])
    gradients = _pull.bind(image, x, cotangents[0], both=both, **setting)
    if not both:
        return [None, None, gradients[0], *(None for _ in dimage)]
    moving = gradients[1] if ad.is_undefined_primal(dx) else None
    return [None, None, moving, gradients[0]]


def _pull_transpose(cotangents, image, x, g, *, both, **setting):
    along_image = cotangents[0] if both else ad.Zero(jax.typeof(image).to_tangent_aval())
    return [None, None, *_derivative(image, x, along_image, cotangents[-1], **setting)]


def _primitive(
    name: str, impl: Callable, reference: Callable, jvp: Callable, transpose: Callable
) -> Primitive:
    """A primitive on arrays that all begin with the batch axis; `jax.vmap` extends that axis."""
    primitive = Primitive(f"resample_{name}")
    primitive.multiple_results = True
    primitive.def_impl(impl)

    def abstract(*arrays, **setting):
        structs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]
        outs = jax.eval_shape(functools.partial(reference, **setting), *structs)
        return [jax.core.ShapedArray(out.shape, out.dtype) for out in outs]

    def batch(arrays, axes, **setting):
        size = next(a.shape[axis] for a, axis in zip(arrays, axes) if axis is not None)
        fronts = [batching.bdim_at_front(a, axis, size) for a, axis in zip(arrays, axes)]
        outs = primitive.bind(*(f.reshape(-1, *f.shape[2:]) for f in fronts), **setting)
        return [out.reshape(size, -1, *out.shape[1:]) for out in outs], [0] * len(outs)

    primitive.def_abstract_eval(abstract)
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(reference, multiple_results=True))
    mlir.register_lowering(primitive, mlir.lower_fun(impl, multiple_results=True), platform="cpu")
    return primitive


_sample = _primitive("sample", _sample_impl, _sample_reference, _sample_jvp, _sample_transpose)
_spread = _primitive("spread", _spread_impl, _spread_reference, _spread_jvp, _spread_transpose)
_push = _primitive("push", _push_impl, _push_reference, _push_jvp, _push_transpose)
_pull = _primitive("pull", _pull_impl, _pull_reference, _pull_jvp, _pull_transpose)
