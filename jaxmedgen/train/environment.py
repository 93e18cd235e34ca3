"""What a run ran on: versions, devices, git revision; and the compilation cache."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys

import jax
from jax.experimental.compilation_cache import compilation_cache

PACKAGES = (
    "jaxmedgen",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "scipy",
    "nibabel",
)


def describe_environment() -> dict[str, object]:
    """Versions, devices, git revision, time (UTC) and command line, JSON-able."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "versions": versions,
        "backend": jax.default_backend(),
        "devices": [d.device_kind for d in jax.devices()],
        "process_count": jax.process_count(),
        "revision": git_revision(),
        "command": " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def git_revision() -> str:
    """Revision of the checkout the package lies in, ``-dirty`` if changed, or ``unknown``."""
    root = pathlib.Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "unknown"
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def write_json(path: pathlib.Path, value: object) -> None:
    """Writes JSON atomically, indented."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2, default=str) + "\n")
    os.replace(partial, path)


def use_compilation_cache(folder: pathlib.Path) -> None:
    """Keeps compiled programs in `folder`, so that a second start skips compilation."""
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    # JAX decides at its first compilation whether there is a cache, and that may be over already.
    compilation_cache.reset_cache()
