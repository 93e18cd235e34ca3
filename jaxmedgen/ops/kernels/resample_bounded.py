"""Linear warping without gathers, for displacements of a few voxels: the form for TPUs.

``f(x + u(x)) = sum_d hat(u(x) - d) f(x + d)`` over all shifts d with components in [-r, r]: where
no displacement exceeds r voxels, interpolation is a dense stencil of ``(2r+1)^n`` taps whose
weights vary in space. TPUs read vectors, not single addresses; r = 1 (27 taps) suffices for a step
of a flow that obeys ``dt |v| <= 1``. The cost grows with the cube: r = 2 has 125 taps, r = 3 has
343.

In the Mosaic kernel width lies on the lanes and height on the sublanes. A program computes some
planes of depth from a block that overlaps its neighbours' by r planes; all taps and channels are in
fast memory.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels.pallas_support import (
    Platform,
    kernel_platform,
    with_reference_derivative,
)
from jaxmedgen.ops.kernels.resample_xla import Mode

PAD_MODES = {"border": "edge", "constant": "constant", "reflect": "reflect", "wrap": "wrap"}
_BLOCK_BYTES = 4 << 20  # of the largest input to a program


def resample_bounded(
    image: Float[Array, " b *s c"],
    displacement: Float[Array, " b *s n"],
    radius: int,
    *,
    mode: Mode = "border",
) -> Float[Array, " b *s c"]:
    """``f(x + u(x))`` where no component of u exceeds `radius`; plain XLA.

    Differentiable any number of times. At the voxel centres, where linear interpolation has a kink,
    the derivative is the mean of both sides.

    Args:
        image: 2D or 3D images.
        displacement: in voxels; what exceeds the radius is cut to it.
        radius: in voxels, at least 1.
        mode: how the image goes on beyond its borders, as in `ops.resample.resample`.

    Raises:
        ValueError: a displacement that does not fit the image, or a radius below 1.
    """
    _check(image, displacement, radius)
    n = displacement.shape[-1]
    wide = pad_halo(image, range(1, n + 1), radius, mode)
    u = [displacement[..., axis] for axis in range(n)]

    def read(shift):
        index = (slice(radius + d, radius + d + s) for d, s in zip(shift, image.shape[1:]))
        return wide[(slice(None), *index)]

    # The taps are cheaper to compute again than to keep for the backward pass.
    return jax.checkpoint(lambda u: stencil(read, u, radius, lambda w: w[..., None]))(u)


def resample_bounded_pallas(
    image: Float[Array, " b *s c"],
    displacement: Float[Array, " b *s n"],
    radius: int,
    *,
    mode: Mode = "border",
    platform: Platform | None = None,
    interpret: bool = False,
) -> Float[Array, " b *s c"]:
    """`resample_bounded` by a Mosaic kernel; derivatives are plain XLA.

    Args:
        image: 2D or 3D images, float32.
        displacement: in voxels; what exceeds the radius is cut to it.
        radius: in voxels, at least 1.
        mode: how the image goes on beyond its borders.
        platform: "tpu", or the default device's by default.
        interpret: run the kernel as plain operations, on any machine. Slow, for tests.

    Raises:
        ValueError: as `resample_bounded`, or a platform without kernel.
    """
    _check(image, displacement, radius)
    if kernel_platform(platform) != "tpu":
        raise ValueError("platform 'gpu' has no kernel for the bounded stencil: use sample_pallas")

    def body(readers, here):
        (read,) = readers
        return [stencil(functools.partial(read, c), here(1), radius) for c in range(channels)]

    channels = image.shape[-1]

    def run(image, displacement):
        return call_on_planes(
            body, [image], [displacement], channels, radius, mode, "resample_bounded", interpret
        )

    reference = functools.partial(resample_bounded, radius=radius, mode=mode)
    return with_reference_derivative(run, reference)(image, displacement)


def stencil(
    read: Callable[[tuple[int, ...]], jax.Array],
    u: Sequence[jax.Array],
    radius: int,
    spread: Callable[[jax.Array], jax.Array] = lambda weight: weight,
) -> jax.Array:
    """``sum_d hat(u - d) read(d)``, components of `u` cut to the radius.

    Args:
        read: the field moved by a shift, one whole number an axis.
        u: components of the displacement, arrays of one shape.
        radius: of the shifts.
        spread: gives a weight the axes of what `read` returns.
    """
    u = [jnp.clip(component, -radius, radius) for component in u]
    shifts = range(-radius, radius + 1)
    hats = [{d: jnp.maximum(1 - jnp.abs(x - d), 0) for d in shifts} for x in u]
    total = 0.0
    for shift in itertools.product(shifts, repeat=len(u)):
        weight = math.prod(hat[d] for hat, d in zip(hats, shift))
        total = total + spread(weight) * read(shift)
    return total


def pad_halo(x: jax.Array, axes: Sequence[int], radius: int, mode: Mode) -> jax.Array:
    """`x` with `radius` more voxels on each side of its axes `axes`.

    Raises:
        ValueError: an image too small to be continued so far.
    """
    least = radius + 1 if mode == "reflect" else radius if mode == "wrap" else 1
    if any(x.shape[axis] < least for axis in axes):
        raise ValueError(
            f"image {x.shape} needs {least} voxels an axis for radius {radius} and mode {mode!r}"
        )
    widths = [(radius, radius) if axis in axes else (0, 0) for axis in range(x.ndim)]
    return jnp.pad(x, widths, mode=PAD_MODES[mode])


def call_on_planes(body, haloed, plain, channels, radius, mode, name, interpret):
    """Runs a Mosaic kernel over planes of depth of fields with channels last.

    Args:
        body: ``body(readers, here) -> channels``: plane by plane, ``readers[i](c, shift)`` is
            channel `c` of field `haloed[i]` moved by `shift`; ``here(i)`` are all channels of the
            i-th field at rest, counted through `haloed` and `plain`.
        haloed: fields read at shifts up to `radius`.
        plain: fields read in place.
        channels: of the result.
        radius: of the shifts.
        mode: how the fields go on beyond their borders.
        name: of the kernel.
        interpret: run as plain operations.
    """
    space = haloed[0].shape[1:-1]
    two = len(space) == 2
    depth, height, width = (1, *space) if two else space
    b, dtype = haloed[0].shape[0], haloed[0].dtype
    halo = 0 if two else radius  # of the depth
    wide = (height + 2 * radius) * (width + 2 * radius) * 4 * max(x.shape[-1] for x in haloed)
    fits = [p for p in range(1, depth + 1) if depth % p == 0]
    planes = max((p for p in fits if (p + 2 * halo) * wide <= _BLOCK_BYTES), default=1)

    def components_first(x):
        x = jnp.moveaxis(x, -1, 1)
        return x[:, :, None] if two else x

    inputs, specs = [], []
    for field in haloed:
        axes = (3, 4) if two else (2, 3, 4)
        x = pad_halo(components_first(field), axes, radius, mode)
        block = (1, x.shape[1], planes + 2 * halo, *x.shape[3:])
        block = tuple(pl.Element(size) for size in block)
        inputs.append(x)
        specs.append(pl.BlockSpec(block, lambda n, i: (n, 0, i * planes, 0, 0)))
    for field in plain:
        inputs.append(components_first(field))
        block = (1, field.shape[-1], planes, height, width)
        specs.append(pl.BlockSpec(block, lambda n, i: (n, 0, i, 0, 0)))

    def kernel(*refs):
        *refs, out_ref = refs

        def one_plane(z, _):
            def reader(ref):
                @functools.cache
                def read(channel, shift):
                    dz, dy, dx = (0, *shift) if two else shift
                    rows, columns = pl.ds(radius + dy, height), pl.ds(radius + dx, width)
                    return ref[0, channel, z + halo + dz, rows, columns]

                return read

            readers = [reader(ref) for ref in refs[: len(haloed)]]

            def here(i):
                count = range(refs[i].shape[1])
                if i < len(haloed):
                    return [readers[i](c, (0,) * len(space)) for c in count]
                return [refs[i][0, c, z] for c in count]

            for c, value in enumerate(body(readers, here)):
                out_ref[0, c, z] = value.astype(out_ref.dtype)
            return 0

        lax.fori_loop(np.int32(0), np.int32(planes), one_plane, 0)

    out = pl.pallas_call(
        kernel,
        grid=(b, depth // planes),
        in_specs=specs,
        out_specs=pl.BlockSpec((1, channels, planes, height, width), lambda n, i: (n, 0, i, 0, 0)),
        out_shape=jax.ShapeDtypeStruct((b, channels, depth, height, width), dtype),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel"), vmem_limit_bytes=64 << 20
        ),
        interpret=interpret,
        name=name,
    )(*inputs)
    return jnp.moveaxis(out.reshape(b, channels, *space), 1, -1)


def _check(image: jax.Array, displacement: jax.Array, radius: int) -> None:
    n = displacement.shape[-1]
    if n not in (2, 3) or image.ndim != n + 2 or image.shape[:-1] != displacement.shape[:-1]:
        raise ValueError(
            f"displacement {displacement.shape} must have the axes of image {image.shape} and as "
            "many components as the image has axes of space"
        )
    if radius < 1:
        raise ValueError(f"radius {radius} must be at least 1 voxel")
