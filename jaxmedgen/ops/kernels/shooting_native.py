"""C++ forms for CPU of the stencils ad and ad* and of the spectral filter; float32.

Raw calls without derivatives: the primitives of `ops/lie_algebra.py` and `spectral_filter` here
know their transposes.
"""

import math

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxmedgen.ops.kernels.native import register
from jaxmedgen.ops.kernels.platform import on_single_cpu

STENCILS = ("LieAlgebraAd", "LieAlgebraAdStar")


def use_native(backend: str, dtype: jnp.dtype, name: str) -> bool:
    """Whether to take the C++ form of ``lie_algebra`` or ``spectral``.

    ``auto`` takes it on a single CPU device (the partitioner cannot split such calls) in float32,
    where it can be built.

    Raises:
        ValueError: ``native`` is asked for and not to be had.
    """
    symbols = STENCILS if name == "lie_algebra" else ("SpectralFilter",)
    if backend == "native":
        if dtype != jnp.float32 or not register(name, symbols):
            raise ValueError(f"'native' for {dtype}: it needs float32 and a C++ compiler")
        return True
    single = on_single_cpu()
    return backend == "auto" and single and dtype == jnp.float32 and register(name, symbols)


def stencil_native(symbol: str, v: jax.Array, m: jax.Array) -> jax.Array:
    """``LieAlgebraAd`` or ``LieAlgebraAdStar`` of fields with components first."""
    return jax.ffi.ffi_call(f"jaxmedgen_{symbol}", jax.ShapeDtypeStruct(v.shape, v.dtype))(v, m)


def spectral_filter(x: jax.Array, symbol: jax.Array) -> jax.Array:
    """Multiplies the spectrum of real fields by a real symbol that is even on every axis.

    Mixed-radix transforms of 32 lines at a time, three passes over memory. Linear in `x` and its
    own transpose; derivatives in the symbol are not defined.

    Args:
        x: fields ``[..., *space]`` with as many axes of space as `symbol`, 1 to 3.
        symbol: factors ``[*space]`` in the order of `np.fft.fftfreq`.
    """
    space = (1,) * (3 - symbol.ndim) + symbol.shape
    planes = x.reshape(math.prod(x.shape[: x.ndim - symbol.ndim]), *space)
    return _filter.bind(planes, symbol.reshape(space)).reshape(x.shape)


def _plain(x, symbol):
    half = symbol[..., : symbol.shape[-1] // 2 + 1]
    axes = (1, 2, 3)
    spectrum = half * jnp.fft.rfftn(x, axes=axes)
    return jnp.fft.irfftn(spectrum, s=x.shape[1:], axes=axes).astype(x.dtype)


def _in_cpp(x, symbol):
    result = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.ffi.ffi_call("jaxmedgen_SpectralFilter", result)(x, symbol)


def _jvp(primals, tangents):
    x, symbol = primals
    out = _filter.bind(x, symbol)
    if type(tangents[0]) is ad.Zero:
        return out, ad.Zero(jax.typeof(out).to_tangent_aval())
    return out, _filter.bind(tangents[0], symbol)


def _transpose(cotangent, x, symbol):
    if type(cotangent) is ad.Zero:
        return ad.Zero(x.aval), None
    return _filter.bind(cotangent, symbol), None


def _batched(arguments, axes):
    x, symbol = arguments
    if axes[1] is not None:
        raise ValueError("spectral_filter: the symbol must be shared by the batch")
    x = jnp.moveaxis(x, axes[0], 0)
    return _filter.bind(x.reshape(-1, *x.shape[2:]), symbol).reshape(x.shape), 0


_filter = Primitive("jaxmedgen_spectral_filter")
_filter.def_impl(jax.jit(lambda x, symbol: _filter.bind(x, symbol)))
_filter.def_abstract_eval(lambda x, symbol: x)
mlir.register_lowering(_filter, mlir.lower_fun(_plain, multiple_results=False))
mlir.register_lowering(_filter, mlir.lower_fun(_in_cpp, multiple_results=False), platform="cpu")
ad.primitive_jvps[_filter] = _jvp
ad.primitive_transposes[_filter] = _transpose
batching.primitive_batchers[_filter] = _batched
