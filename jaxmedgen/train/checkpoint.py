"""Checkpoints by orbax: the last few and the best, each with the host's own state beside it.

``checkpoints/last/STEP``, ``best/STEP`` and, after a non-finite step, ``halted/STEP`` hold the
`TrainState` (item ``state``) and a JSON object (item ``host``): position of the input pipeline,
running means of the log, best score.
Orbax writes to a temporary name and renames, so a kill leaves the previous checkpoint whole.
"""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxmedgen.train.state import TrainState

KINDS = ("last", "best", "halted")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says which and what to do."""


class Checkpointer:
    """Reads and writes the checkpoints of one work folder."""

    def __init__(self, workdir: pathlib.Path, keep: int = 2) -> None:
        """Opens ``workdir/checkpoints``, created at the first save.

        Args:
            workdir: the run's folder.
            keep: how many of the last checkpoints to keep.
        """
        self.folder = pathlib.Path(workdir).resolve() / "checkpoints"
        self._keep = keep
        self._managers: dict[str, ocp.CheckpointManager] = {}

    def _manager(self, kind: str) -> ocp.CheckpointManager:
        if kind not in KINDS:
            raise ValueError(f"unknown checkpoint kind '{kind}': choose one of {', '.join(KINDS)}")
        if kind not in self._managers:
            self._managers[kind] = ocp.CheckpointManager(
                self.folder / kind,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=self._keep if kind == "last" else 1,
                    create=True,
                    cleanup_tmp_directories=True,
                    # On the CPU the copy is the cost; elsewhere training goes on while it writes.
                    enable_async_checkpointing=jax.default_backend() != "cpu",
                ),
            )
        return self._managers[kind]

    def save(self, state: TrainState, host: dict[str, Any], kind: str = "last") -> None:
        """Writes `state` and the JSON-able `host`; a second save of the same step is skipped.

        Raises:
            CheckpointError: the disk is full or not writable; earlier checkpoints are untouched.
        """
        manager, step = self._manager(kind), int(state.step)
        if step in manager.all_steps():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(_to_arrays(state)), host=ocp.args.JsonSave(host)
        )
        try:
            manager.save(step, args=items, force=True)
        except (OSError, ValueError) as error:
            kept = manager.latest_step()
            raise CheckpointError(
                f"cannot write the checkpoint of step {step} to {self.folder / kind}: "
                f"{_first_line(error)}; free space there and run again, it goes on from step "
                f"{0 if kept is None else kept}"
            ) from error

    def latest(self, kind: str = "last") -> int | None:
        """Step of the newest checkpoint of a kind, or None."""
        return self._manager(kind).latest_step()

    def restore(
        self, like: TrainState, kind: str = "last", step: int | None = None
    ) -> tuple[TrainState, dict[str, Any]]:
        """Reads a checkpoint into the structure, types and shardings of `like`.

        Raises:
            CheckpointError: there is none, or it belongs to another model.
        """
        manager = self._manager(kind)
        step = manager.latest_step() if step is None else step
        if step is None:
            raise CheckpointError(
                f"no '{kind}' checkpoint in {self.folder}: train first (bin/train --workdir)"
            )
        abstract = jax.tree.map(_abstract, _to_arrays(like))
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), host=ocp.args.JsonRestore()
        )
        try:
            restored = manager.restore(step, args=items)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"cannot read checkpoint {self.folder / kind / str(step)} with this configuration:"
                f" {_first_line(error)}; use the config it was trained with, or another --workdir"
            ) from error
        return _from_arrays(restored["state"], like), restored["host"]

    def wait(self) -> None:
        """Blocks until pending writes are on disk."""
        for manager in self._managers.values():
            manager.wait_until_finished()

    def close(self) -> None:
        """Finishes pending writes and releases the folder."""
        for manager in self._managers.values():
            manager.close()


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
