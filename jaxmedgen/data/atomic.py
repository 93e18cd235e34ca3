"""Files appear whole or not at all: written beside their place, then renamed over it."""

import contextlib
import csv
import io
import os
import pathlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO


def write_table(path: str | os.PathLike, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes a CSV whose header is the keys of the first row; the folder is made."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


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
