"""Kernels in C++ for CPU: compiled once a machine, on first use, and called through XLA's FFI.

A kernel ``cpp/NAME.cc`` exports handlers with ``XLA_FFI_DEFINE_HANDLER_SYMBOL``. `register` builds
it with the system's C++ compiler for the machine's own instruction set, keeps the library in the
user's cache folder (``$XDG_CACHE_HOME/jaxmedgen/native``) and makes the handlers known to XLA as
``jaxmedgen_SYMBOL``. Where that cannot be done (no compiler, ``JAXMEDGEN_NATIVE=0``) callers use
their plain-XLA form: the results are the same, only slower.

``python -m jaxmedgen.ops.kernels.native`` builds all of them ahead of time.
"""

import ctypes
import functools
import hashlib
import logging
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import jax

SOURCES = pathlib.Path(__file__).parent / "cpp"
# Sums may be reordered to fill vector registers; not -ffast-math, which would also flush denormals
# in the whole process and give up NaN.
FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-ffp-contract=fast"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
)


@functools.cache
def register(name: str, symbols: Sequence[str]) -> bool:
    """Makes the handlers of ``cpp/NAME.cc`` callable as FFI targets ``jaxmedgen_SYMBOL``.

    Args:
        name: file name without ending.
        symbols: names of the exported handlers, a tuple.

    Returns:
        Whether they can be called; False (and one warning in the log) where they cannot be built.
    """
    if os.environ.get("JAXMEDGEN_NATIVE", "1") == "0":
        return False
    try:
        library = ctypes.cdll.LoadLibrary(str(build(name)))
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or error
        logging.getLogger(__name__).warning(
            "kernel %s cannot be built, slower XLA code is used instead: %s", name, reason
        )
        return False
    for symbol in symbols:
        capsule = jax.ffi.pycapsule(getattr(library, symbol))
        jax.ffi.register_ffi_target(f"jaxmedgen_{symbol}", capsule, platform="cpu")
    return True


def build(name: str) -> pathlib.Path:
    """Compiles ``cpp/NAME.cc`` unless the cache has it; returns the library's path.

    Raises:
        FileNotFoundError: there is no C++ compiler.
        subprocess.CalledProcessError: the compiler failed; its message is in ``stderr``.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise FileNotFoundError("no C++ compiler found: install g++ or clang++, or set CXX")
    content = hashlib.sha256("\0".join([compiler, *FLAGS, jax.__version__, _processor()]).encode())
    for path in sorted([SOURCES / f"{name}.cc", *SOURCES.glob("*.h")]):
        content.update(path.read_bytes())
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = home / "jaxmedgen" / "native"
    target = folder / f"{name}-{content.hexdigest()[:16]}.so"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        unfinished = pathlib.Path(scratch) / target.name
        subprocess.run(
            [
                compiler,
                *FLAGS,
                f"-I{jax.ffi.include_dir()}",
                str(SOURCES / f"{name}.cc"),
                "-o",
                str(unfinished),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        unfinished.replace(target)  # atomic: processes that build at the same time both succeed
    return target


def _processor() -> str:
    """Instruction set of this machine: a home folder may be shared by machines that differ."""
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return platform.platform()


if __name__ == "__main__":
    for source in sorted(SOURCES.glob("*.cc")):
        print(build(source.stem), file=sys.stderr)
