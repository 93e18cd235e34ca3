"""Linear sampling by fused GPU kernels, forward and backward.

The kernels are in `resample_pallas_gpu`. TPUs have no fast gather: there is no kernel for arbitrary
points; `resample_bounded` serves displacements of a few voxels, plain XLA the rest.
"""

import functools

import jax
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.pallas_support import (
    Platform,
    check_addresses,
    kernel_platform,
    with_reference_derivative,
)
from jaxmedgen.ops.kernels.resample_pallas_gpu import resample_gpu, resample_gradient_gpu
from jaxmedgen.ops.kernels.resample_xla import MODES, Mode, sample_xla


def sample_pallas(
    image: Float[Array, " b *s c"],
    x: Float[Array, " b p n"],
    *,
    order: int = 1,
    mode: Mode = "border",
    platform: Platform | None = None,
    interpret: bool = False,
) -> Float[Array, " b p c"]:
    """Linear values at the points `x` of an image; 0 beyond "constant".

    Differentiable in reverse mode any number of times: once by a kernel, then by XLA. The gradient
    to the image is summed by atomic additions, so its last bits depend on the order in which the
    GPU happens to run.

    Args:
        image: 2D or 3D images, float32 or bfloat16; sums are float32.
        x: points in voxels.
        order: 1, the only one there is a kernel for.
        mode: how the image goes on beyond its borders, as in `ops.resample.resample`.
        platform: "gpu", or the default device's by default.
        interpret: run the kernel as plain operations, on any machine. Slow, for tests.

    Raises:
        ValueError: points that do not fit the image, an unknown mode, or an order or platform for
            which there is no kernel.
    """
    n = image.ndim - 2
    if x.shape[-1] != n:
        raise ValueError(f"points of shape {x.shape}: the last axis must have size {n}")
    if order != 1:
        raise ValueError(f"backend 'pallas' is linear (order 1), not of order {order}: use 'auto'")
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is unknown: use one of {MODES}")
    if kernel_platform(platform) != "gpu":
        raise ValueError(
            "platform 'tpu' has no kernel for arbitrary points: use resample_bounded for small "
            "displacements, or the plain XLA form"
        )
    check_addresses(image)
    check_addresses(x)
    return _sample((mode, interpret), image, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sample(setting, image, x):
    mode, interpret = setting
    return resample_gpu(image, x, mode=mode, interpret=interpret)


def _forward(setting, image, x):
    return _sample(setting, image, x), (image, x)


def _backward(setting, saved, g):
    mode, interpret = setting

    def by_xla(image, x, g):
        return jax.vjp(functools.partial(sample_xla, order=1, mode=mode), image, x)[1](g)

    def by_kernel(image, x, g):
        return resample_gradient_gpu(image, x, g, mode=mode, interpret=interpret)

    return with_reference_derivative(by_kernel, by_xla)(*saved, g)


_sample.defvjp(_forward, _backward)
