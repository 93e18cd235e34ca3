"""Which platform a program is traced for: this machine's, or one announced for it.

Every rule that picks a backend asks here, so that ahead-of-time compilation for another machine
gets that machine's formulations.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_ANNOUNCED: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)
_FAMILY = {"cuda": "gpu", "rocm": "gpu"}


@contextlib.contextmanager
def target_platform(name: str | None) -> Iterator[None]:
    """Announces the platform a program is traced for where it is not this machine's.

    For ahead-of-time compilation: a step lowered on a CPU host for a TPU topology must not get the
    CPU formulations.

    Args:
        name: ``cpu``, ``gpu`` or ``tpu``; None for this machine's.
    """
    token = _ANNOUNCED.set(name)
    try:
        yield
    finally:
        _ANNOUNCED.reset(token)


def platform() -> str:
    """``cpu``, ``gpu`` or ``tpu``: what was announced, else the default device's platform."""
    name = _ANNOUNCED.get()
    if name is None:
        device = jax.config.jax_default_device
        if device is None:
            name = jax.default_backend()
        else:
            name = device if isinstance(device, str) else device.platform
    return _FAMILY.get(name, name)


def on_single_cpu() -> bool:
    """Whether the program runs on one CPU device: native kernels cannot be partitioned."""
    return platform() == "cpu" and jax.device_count() == 1
