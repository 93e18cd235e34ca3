"""Test set-up: eight CPU devices, shape checks on every annotated function of the package.

Most of a test's time goes into compiling, so that XLA is told to optimise little; set
XLA_FLAGS=--xla_backend_optimization_level=3 to test the programs that users run.
"""

import os

# Before jax is imported: the parity tests shard over eight forced host devices.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
for flag in ("--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=0"):
    if flag.split("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("jaxmedgen", "beartype.beartype")
