"""Checkpoints by orbax: the last few and the best, each with the host's own state beside it.

``checkpoints/last/STEP``, ``best/STEP`` and, after a non-finite step, ``halted/STEP`` hold the
`TrainState` (item ``state``) and a JSON object (item ``host``): position of the input pipeline,
running means of the log, best score.
Orbax writes to a temporary name and renames, so a kill leaves the previous checkpoint whole.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxmedgen.train.state import TrainState

KINDS = ("last", "best", "halted")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says which and what to do."""


class Checkpointer:
    """Reads and writes the checkpoints of one work folder."""

    def __init__(self, workdir: pathlib.Path, keep: int = 2, *, read_only: bool = False) -> None:
        """Opens ``workdir/checkpoints``, created at the first save.

        Args:
            workdir: the run's folder.
            keep: how many of the last checkpoints to keep.
            read_only: look at a run that may be training: nothing is created or deleted.
        """
        self.folder = pathlib.Path(workdir).resolve() / "checkpoints"
        self._keep = keep
        self._read_only = read_only
        self._managers: dict[str, ocp.CheckpointManager] = {}
        self._writes: dict[str, int] = {}

    def _path(self, kind: str) -> pathlib.Path:
        if kind not in KINDS:
            raise ValueError(f"unknown checkpoint kind '{kind}': choose one of {', '.join(KINDS)}")
        return self.folder / kind

    def _manager(self, kind: str) -> ocp.CheckpointManager:
        path = self._path(kind)
        if kind not in self._managers:
            self._managers[kind] = ocp.CheckpointManager(
                path,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=self._keep if kind == "last" else 1,
                    create=not self._read_only,
                    # Orbax takes every unfinished folder for a killed run's: a reader would delete
                    # the one that a training is writing.
                    cleanup_tmp_directories=not self._read_only,
                    # On the CPU the copy is the cost; elsewhere training goes on while it writes.
                    enable_async_checkpointing=jax.default_backend() != "cpu",
                ),
            )
        return self._managers[kind]

    def save(self, state: TrainState, host: dict[str, Any], kind: str = "last") -> None:
        """Writes `state` and the JSON-able `host`; a second save of the same step is skipped.

        Elsewhere than on the CPU it is written behind the caller's back: what goes wrong is raised
        by the next `save` of the kind, `wait` or `close`.

        Raises:
            CheckpointError: the disk is full or not writable; earlier checkpoints are untouched.
            ValueError: unknown kind, or opened with `read_only`.
        """
        if self._read_only:
            raise ValueError(f"{self.folder} is opened read_only: open it without to save")
        self._finish(kind)
        manager, step = self._manager(kind), int(state.step)
        if step in manager.all_steps():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(_to_arrays(state)), host=ocp.args.JsonSave(host)
        )
        self._writes[kind] = step
        with self._writing(kind):
            manager.save(step, args=items, force=True)

    def _finish(self, kind: str) -> None:
        """Waits for a kind's write."""
        if kind in self._managers:
            with self._writing(kind):
                self._managers[kind].wait_until_finished()

    @contextlib.contextmanager
    def _writing(self, kind: str) -> Iterator[None]:
        """Names the step whose write fails, in one line."""
        try:
            yield
        except (OSError, ValueError) as error:
            del self._managers[kind]  # it would repeat the error at every call
            kept = [int(p.name) for p in (self.folder / "last").glob("*") if p.name.isdigit()]
            raise CheckpointError(
                f"cannot write the checkpoint of step {self._writes.get(kind)} to "
                f"{self.folder / kind}: {_first_line(error)}; free space there and run again, it "
                f"goes on from step {max(kept, default=0)}"
            ) from error

    def latest(self, kind: str = "last") -> int | None:
        """Step of the newest checkpoint of a kind, or None."""
        if self._read_only and not self._path(kind).is_dir():
            return None
        return self._manager(kind).latest_step()

    def restore(
        self, like: TrainState, kind: str = "last", step: int | None = None
    ) -> tuple[TrainState, dict[str, Any]]:
        """Reads a checkpoint into the structure, types and shardings of `like`.

        Raises:
            CheckpointError: there is none, or it belongs to another model.
        """
        step = self.latest(kind) if step is None else step
        if step is None or (self._read_only and not self._path(kind).is_dir()):
            raise CheckpointError(
                f"no '{kind}' checkpoint in {self.folder}: train first (bin/train --workdir)"
            )
        abstract = jax.tree.map(_abstract, _to_arrays(like))
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), host=ocp.args.JsonRestore()
        )
        try:
            restored = self._manager(kind).restore(step, args=items)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if not (self.folder / kind / str(step)).exists():
                raise CheckpointError(
                    f"checkpoint {self.folder / kind / str(step)} is not there (any more): a "
                    "running training replaces them, run the command again"
                ) from error
            raise CheckpointError(
                f"cannot read checkpoint {self.folder / kind / str(step)} with this configuration:"
                f" {_first_line(error)}; use the config it was trained with, or another --workdir"
            ) from error
        return _from_arrays(restored["state"], like), restored["host"]

    def wait(self) -> None:
        """Blocks until pending writes are on disk.

        Raises:
            CheckpointError: one of them failed.
        """
        for kind in tuple(self._managers):
            self._finish(kind)

    def close(self) -> None:
        """Finishes pending writes and releases the folder.

        Raises:
            CheckpointError: one of them failed; a failure is told once.
        """
        errors = []
        for kind in tuple(self._managers):
            try:
                self._finish(kind)
                self._managers.pop(kind).close()
            except CheckpointError as error:
                errors.append(error)
        if errors:
            raise errors[0]


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _to_arrays(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _from_arrays(tree: Any, like: Any) -> Any:
    def convert(x, old):
        return jax.random.wrap_key_data(x, impl=jax.random.key_impl(old)) if _is_key(old) else x

    return jax.tree.map(convert, tree, like)


def _abstract(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
