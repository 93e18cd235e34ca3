"""Reductions over the *global* batch, whatever the parallel backend.

Under `jax.jit` with sharded inputs an array already stands for the whole batch, so these are plain
sums. Under `jax.pmap` each device sees its own slice and the reduction needs the mapped axis' name.
The training step announces that axis with `batch_axis`; losses, metrics and norms ask here and so
give the same numbers on one device and on many.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax
from jaxtyping import Array, Shaped

_AXIS: contextvars.ContextVar[str | None] = contextvars.ContextVar("batch_axis", default=None)


@contextlib.contextmanager
def batch_axis(name: str | None) -> Iterator[None]:
    """Announces the mapped axis that splits the batch while a step is traced."""
    token = _AXIS.set(name)
    try:
        yield
    finally:
        _AXIS.reset(token)


def axis_name() -> str | None:
    """The mapped axis that splits the batch, or None where arrays are global already."""
    return _AXIS.get()


def all_sum(x: Shaped[Array, "*s"]) -> Shaped[Array, "*s"]:
    """Sum of per-device partial sums over all devices; shape unchanged."""
    name = axis_name()
    return x if name is None else jax.lax.psum(x, name)


def all_mean(x: Shaped[Array, "*s"]) -> Shaped[Array, "*s"]:
    """Mean of per-device means over all devices (equal shards); shape unchanged."""
    name = axis_name()
    return x if name is None else jax.lax.pmean(x, name)


def all_gather(x: Shaped[Array, " b *s"]) -> Shaped[Array, " b_all *s"]:
    """The global batch of `x`, device shards in order."""
    name = axis_name()
    return x if name is None else jax.lax.all_gather(x, name, axis=0, tiled=True)
