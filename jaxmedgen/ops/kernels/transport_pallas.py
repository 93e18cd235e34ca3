"""Semi-Lagrangian steps as fused kernels; `ops/transport.py` has their plain-XLA form.

- `characteristic_pallas`: ``w = dt v(x + dt v(x) / 2)``;
- `forward_step_pallas`: ``u <- u + w(x + u)``, two kernels;
- `inverse_step_pallas`: ``u <- w- + u(x + w-)`` with ``w-`` of the opposite time, both gathers in
  one kernel: the characteristic never goes to memory.

On GPU the kernels gather. On TPU they are dense stencils (`resample_bounded`), which holds while no
voxel moves by more than `radius` in a step; a forward step follows the whole displacement and ends
with XLA's gather there. Derivatives are those of the same steps made of `sample_pallas` (GPU) or
of `resample_bounded` (TPU).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmedgen.ops.kernels import transport_pallas_gpu
from jaxmedgen.ops.kernels.pallas_support import Platform, check_addresses, kernel_platform
from jaxmedgen.ops.kernels.resample_bounded import call_on_planes, resample_bounded, stencil
from jaxmedgen.ops.kernels.resample_pallas import sample_pallas
from jaxmedgen.ops.kernels.resample_xla import sample_xla


@dataclasses.dataclass(frozen=True)
class _Setting:
    dt: float | int
    radius: int
    platform: Platform
    interpret: bool


def characteristic_pallas(
    velocity: Float[Array, " b *s n"],
    dt: float | int,
    *,
    radius: int = 1,
    platform: Platform | None = None,
    interpret: bool = False,
) -> Float[Array, " b *s n"]:
    """Displacement over the time `dt` in a steady periodic velocity, second order.

    Args:
        velocity: in voxels a unit of time.
        dt: a number known when compiling; negative for where a particle comes from.
        radius: on TPU, the most a voxel moves on an axis in a step; what exceeds it is cut.
        platform: "gpu" or "tpu"; the default device's by default.
        interpret: run the kernel as plain operations, on any machine. Slow, for tests.

    Raises:
        ValueError: a field of the wrong shape, or the platform has no kernel.
    """
    _check(velocity, velocity)
    setting = _Setting(dt, radius, kernel_platform(platform), interpret)
    return _characteristic(setting, velocity)


def forward_step_pallas(
    forward: Float[Array, " b *s n"],
    velocity: Float[Array, " b *s n"],
    dt: float | int,
    *,
    radius: int = 1,
    platform: Platform | None = None,
    interpret: bool = False,
) -> Float[Array, " b *s n"]:
    """Displacement of ``phi <- (id + w) o phi``; arguments as in `characteristic_pallas`."""
    _check(forward, velocity)
    setting = _Setting(dt, radius, kernel_platform(platform), interpret)
    step = _characteristic(setting, velocity)
    return _follow(setting, forward, step)


def inverse_step_pallas(
    inverse: Float[Array, " b *s n"],
    velocity: Float[Array, " b *s n"],
    dt: float | int,
    *,
    radius: int = 1,
    platform: Platform | None = None,
    interpret: bool = False,
) -> Float[Array, " b *s n"]:
    """Displacement of ``psi <- psi o (id + w-)``; arguments as in `characteristic_pallas`."""
    _check(inverse, velocity)
    setting = _Setting(dt, radius, kernel_platform(platform), interpret)
    return _inverse_step(setting, inverse, velocity)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _characteristic(setting, v):
    if setting.platform == "gpu":
        return transport_pallas_gpu.characteristic_gpu(v, setting.dt, setting.interpret)

    def body(readers, here):
        middle = [0.5 * setting.dt * x for x in here(0)]
        return _bounded(setting, readers[0], middle, setting.dt)

    return _planes(body, setting, [v], "characteristic")


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _inverse_step(setting, u, v):
    if setting.platform == "gpu":
        return transport_pallas_gpu.inverse_step_gpu(u, v, setting.dt, setting.interpret)

    def body(readers, here):
        middle = [-0.5 * setting.dt * x for x in here(1)]
        step = _bounded(setting, readers[1], middle, -setting.dt)
        moved = _bounded(setting, readers[0], step, 1.0)
        return [a + b for a, b in zip(step, moved)]

    return _planes(body, setting, [u, v], "inverse_step")


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _follow(setting, u, step):
    if setting.platform == "gpu":
        return transport_pallas_gpu.follow_gpu(u, step, setting.interpret)
    return u + _far(setting, step, u)


def _bounded(setting, read, u, factor):
    n = len(u)
    return [factor * stencil(functools.partial(read, c), u, setting.radius) for c in range(n)]


def _planes(body, setting, fields, name):
    n = fields[0].shape[-1]
    return call_on_planes(body, fields, [], n, setting.radius, "wrap", name, setting.interpret)


def _far(setting, field, u):
    """``f(x + u)`` for any u, by calls that can be differentiated."""
    grid = jnp.stack(jnp.meshgrid(*map(jnp.arange, u.shape[1:-1]), indexing="ij"), -1)
    x = (grid.astype(u.dtype) + u).reshape(u.shape[0], -1, u.shape[-1])
    if setting.platform == "gpu":
        out = sample_pallas(field, x, mode="wrap", platform="gpu", interpret=setting.interpret)
    else:
        out = sample_xla(field, x, order=1, mode="wrap")
    return out.reshape(u.shape)


def _near(setting, field, u):
    """``f(x + u)`` for u within the radius, likewise."""
    if setting.platform == "gpu":
        return _far(setting, field, u)
    return resample_bounded(field, u, setting.radius, mode="wrap")


def _characteristic_calls(setting, v):
    return setting.dt * _near(setting, v, 0.5 * setting.dt * v)


def _inverse_step_calls(setting, u, v):
    step = _characteristic_calls(dataclasses.replace(setting, dt=-setting.dt), v)
    return step + _near(setting, u, step)


def _follow_calls(setting, u, step):
    return u + _far(setting, step, u)


for _fused, _calls in (
    (_characteristic, _characteristic_calls),
    (_inverse_step, _inverse_step_calls),
    (_follow, _follow_calls),
):
    _fused.defvjp(
        lambda setting, *fields, fused=_fused: (fused(setting, *fields), fields),
        lambda setting, fields, g, calls=_calls: jax.vjp(
            functools.partial(calls, setting), *fields
        )[1](g),
    )


def _check(u: jax.Array, v: jax.Array) -> None:
    if u.shape != v.shape or v.shape[-1] != v.ndim - 2 or v.shape[-1] not in (2, 3):
        raise ValueError(
            f"fields {u.shape} and {v.shape} must both be [b, *space, n] with n = 2 or 3 axes"
        )
    check_addresses(u)
