"""Files appear whole or not at all: written beside their place, then renamed over it."""

import contextlib
import os
import pathlib
import secrets
from collections.abc import Callable
from typing import BinaryIO


def write_atomically(
    path: str | os.PathLike, write: Callable[[BinaryIO], object], *, make_folder: bool = True
) -> None:
    """Writes a file through a temporary neighbour, so that no reader ever sees half of it.

    Args:
        path: the file; an existing one is replaced.
        write: is given the open binary file.
        make_folder: also makes missing parent folders.

    Raises:
        OSError: the disk is full, the folder is read-only, ...: one line with the path and the
            reason. The temporary file is removed and an existing file is left as it was.
    """
    path = pathlib.Path(path)
    temporary = None
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile.mkstemp, whose files only their owner may read.
        temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}.tmp"
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno, f"cannot write {path}: {reason}; free space or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
