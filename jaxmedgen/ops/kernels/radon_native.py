"""The linear maps between images and sinograms as JAX primitives, in XLA and in C++.

Each map names its transpose, so that derivatives of any order in both modes are made of the same
four maps. `jax.vmap` over images joins the batch.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxmedgen.ops.kernels import radon_xla
from jaxmedgen.ops.kernels.native import register
from jaxmedgen.ops.kernels.platform import on_single_cpu

Backend = Literal["auto", "xla", "native"]
SYMBOLS = ("RadonProject", "RadonProjectAdjoint", "RadonBackProject", "RadonBackProjectAdjoint")


def choose(backend: Backend, dtype: jnp.dtype) -> Literal["xla", "native"]:
    """Resolves "auto": the C++ form on one CPU device in float32, where it can be built.

    Raises:
        ValueError: the backend is unknown, or native and not to be had.
    """
    if backend == "xla":
        return "xla"
    if backend == "native":
        if dtype != jnp.float32 or not register("radon", SYMBOLS):
            raise ValueError(
                f"backend 'native' for {dtype}: it needs float32 and a C++ compiler; use 'xla'"
            )
        return "native"
    if backend != "auto":
        raise ValueError(f"backend {backend!r} is unknown: use 'auto', 'xla' or 'native'")
    single = on_single_cpu()
    return "native" if single and dtype == jnp.float32 and register("radon", SYMBOLS) else "xla"


def project(image: jax.Array, trig: jax.Array, backend: str) -> jax.Array:
    """Sinograms ``[m, angles, n]`` of images ``[m, n, n]``; see `radon_xla`."""
    return _project.bind(image, trig, size=image.shape[-1], backend=backend)


def project_adjoint(sinogram: jax.Array, trig: jax.Array, backend: str) -> jax.Array:
    """Transpose of `project`."""
    return _project_adjoint.bind(sinogram, trig, size=sinogram.shape[-1], backend=backend)


def back_project(sinogram: jax.Array, trig: jax.Array, size: int, backend: str) -> jax.Array:
    """Images ``[m, size, size]`` of sinograms ``[m, angles, bins]``."""
    return _back_project.bind(sinogram, trig, size=size, backend=backend)


def back_project_adjoint(image: jax.Array, trig: jax.Array, bins: int, backend: str) -> jax.Array:
    """Transpose of `back_project`."""
    return _back_project_adjoint.bind(image, trig, size=bins, backend=backend)


def _linear_map(symbol: str, plain: Callable) -> Primitive:
    """A primitive that maps ``[m, ...]`` linearly, `size` being the size of its result."""

    def in_xla(x, trig, *, size, backend):
        return plain(x, trig, size)

    def in_cpp(x, trig, *, size, backend):
        if backend == "xla":
            return plain(x, trig, size)
        out = jax.ShapeDtypeStruct(_out_shape(x, trig, size), x.dtype)
        return jax.ffi.ffi_call(f"jaxmedgen_{symbol}", out)(x, trig)

    def _out_shape(x, trig, size):
        to_image = symbol in ("RadonProjectAdjoint", "RadonBackProject")
        return (x.shape[0], size if to_image else trig.shape[0], size)

    def abstract(x, trig, *, size, backend):
        return jax.core.ShapedArray(_out_shape(x, trig, size), x.dtype)

    primitive = Primitive(f"jaxmedgen_{symbol}")
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=("size", "backend")))
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(in_xla, multiple_results=False))
    mlir.register_lowering(
        primitive, mlir.lower_fun(in_cpp, multiple_results=False), platform="cpu"
    )

    def batched(arguments, axes, *, size, backend):
        (x, trig), (x_axis, trig_axis) = arguments, axes
        if trig_axis is not None:

            def one(pair):
                return primitive.bind(*pair, size=size, backend=backend)

            count = trig.shape[trig_axis]
            x = jnp.broadcast_to(x, (count, *x.shape)) if x_axis is None else x
            x = x if x_axis is None else jnp.moveaxis(x, x_axis, 0)
            return jax.lax.map(one, (x, jnp.moveaxis(trig, trig_axis, 0))), 0
        x = jnp.moveaxis(x, x_axis, 0)
        y = primitive.bind(x.reshape(-1, *x.shape[2:]), trig, size=size, backend=backend)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0

    batching.primitive_batchers[primitive] = batched
    return primitive


def _pair(first: Primitive, second: Primitive) -> None:
    """Makes two primitives each other's transpose with respect to their first argument."""
    for primitive, partner in ((first, second), (second, first)):

        def jvp(primals, tangents, *, size, backend, primitive=primitive):
            x, trig = primals
            out = primitive.bind(x, trig, size=size, backend=backend)
            if isinstance(tangents[0], ad.Zero):
                return out, ad.Zero.from_primal_value(out)
            return out, primitive.bind(tangents[0], trig, size=size, backend=backend)

        def transpose(cotangent, x, trig, *, size, backend, partner=partner):
            if isinstance(cotangent, ad.Zero):
                return [ad.Zero(x.aval), None]
            back = partner.bind(cotangent, trig, size=x.aval.shape[-1], backend=backend)
            return [back, None]

        ad.primitive_jvps[primitive] = jvp
        ad.primitive_transposes[primitive] = transpose


_project = _linear_map("RadonProject", lambda x, trig, size: radon_xla.project(x, trig))
_project_adjoint = _linear_map(
    "RadonProjectAdjoint", lambda x, trig, size: radon_xla.project_adjoint(x, trig)
)
_back_project = _linear_map("RadonBackProject", radon_xla.back_project)
_back_project_adjoint = _linear_map("RadonBackProjectAdjoint", radon_xla.back_project_adjoint)
_pair(_project, _project_adjoint)
_pair(_back_project, _back_project_adjoint)
