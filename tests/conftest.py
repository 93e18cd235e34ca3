"""Test set-up: eight CPU devices, shape checks on every annotated function of the package."""

import os

# Before jax is imported: the parity tests shard over eight forced host devices.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    ).strip()

from jaxtyping import install_import_hook

install_import_hook("jaxmedgen", "beartype.beartype")
