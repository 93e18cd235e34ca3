"""Parallelism by configuration: a mesh ``data`` x ``space`` under jit, or pmap, same numbers.

`jit` is the default: batches are sharded over ``data``, volumes also along their first spatial axis
over ``space``; XLA inserts the halo exchanges and the global reductions. `pmap` runs the same step
with one batch slice a device and the collectives of `ops/collectives.py`.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxmedgen.ops.collectives import batch_axis
from jaxmedgen.train.step import Step

BACKENDS = ("jit", "pmap")
_QUICKLY = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}
HostBatch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ParallelSettings:
    """How a run uses its devices.

    Attributes:
        backend: ``jit`` or ``pmap``.
        data: devices that split the batch; -1 takes all that ``space`` leaves.
        space: devices that split each volume's first spatial axis (jit only).
        quick_compile: on a CPU, compiles with less optimisation. Steps of thousands of small
            operations between convolutions compile in half the time and run as fast.
    """

    backend: str = "jit"
    data: int = -1
    space: int = 1
    quick_compile: bool = False


class Parallel:
    """Places states and batches on the devices and compiles steps for them."""

    def __init__(self, settings: ParallelSettings = ParallelSettings()) -> None:
        """Builds the mesh.

        Raises:
            ValueError: unknown backend, or a mesh that the devices cannot form.
        """
        if settings.backend not in BACKENDS:
            raise ValueError(
                f"unknown parallel.backend '{settings.backend}': choose one of "
                f"{', '.join(BACKENDS)}"
            )
        if settings.backend == "pmap" and settings.space != 1:
            raise ValueError(
                f"parallel.space={settings.space} needs parallel.backend='jit': "
                "pmap splits the batch only"
            )
        # Process by process, as pmap has them.
        processes = range(jax.process_count())
        devices = [d for i in processes for d in jax.local_devices(process_index=i)]
        data = settings.data if settings.data > 0 else len(devices) // settings.space
        count = data * settings.space
        if data < 1 or settings.space < 1 or count > len(devices):
            raise ValueError(
                f"a mesh of data={settings.data} x space={settings.space} does not fit "
                f"{len(devices)} device(s): lower parallel.data or parallel.space"
            )
        local = jax.local_device_count()
        if count > local and local % settings.space:
            raise ValueError(
                f"parallel.space={settings.space} does not divide the {local} "
                "devices of a process: a process reads whole volumes, so it must hold all of each"
            )
        if count < len(devices) and jax.process_count() > 1:
            raise ValueError(
                f"{count} of {len(devices)} devices in the mesh: a multi-process run must use all"
            )
        self.settings = settings
        self.data, self.space = data, settings.space
        self.mesh = Mesh(
            np.array(devices[:count]).reshape(data, settings.space),
            ("data", "space"),
            axis_types=(AxisType.Auto, AxisType.Auto),
        )
        # Of replicas, and of pmap's leading axis: one slice a device.
        self._everywhere = NamedSharding(self.mesh, PartitionSpec())
        self._slices = NamedSharding(self.mesh, PartitionSpec("data"))
        self._repeat = jax.jit(
            lambda tree: jax.tree.map(lambda x: jnp.repeat(x[None], data, axis=0), tree),
            out_shardings=self._slices,
        )
        self._first = jax.jit(
            lambda tree: jax.tree.map(lambda x: x[0], tree), out_shardings=self._everywhere
        )

    @property
    def is_pmap(self) -> bool:
        """Whether arrays carry pmap's leading device axis."""
        return self.settings.backend == "pmap"

    def check_batch(self, batch_size: int, accumulate: int = 1) -> None:
        """Checks that a global batch divides over the devices and micro-batches.

        Raises:
            ValueError: it does not.
        """
        parts = self.data * accumulate
        if batch_size % parts:
            raise ValueError(
                f"batch_size={batch_size} does not divide over data={self.data} devices"
                f" x accumulate={accumulate}: use a multiple of {parts}, or fewer devices "
                "(--config.parallel.data)"
            )

    def put(self, batch: HostBatch) -> dict[str, jax.Array]:
        """This process' rows of a batch -> global arrays on the mesh (or pmap's stacked form).

        Only volumes (``image [b, d, h, w, c]``, ``label [b, d, h, w]``) are split along ``space``.

        Raises:
            ValueError: rows or depth do not divide over the devices.
        """
        arrays = {name: np.asarray(value) for name, value in batch.items()}
        if self.is_pmap:
            count = len(self.mesh.local_devices)
            return {
                name: jax.make_array_from_process_local_data(self._slices, _stacked(value, count))
                for name, value in arrays.items()
            }
        split = self.space > 1 and _holds_volumes(arrays)
        placed = {}
        for name, value in arrays.items():
            spec = PartitionSpec("data")
            if split and value.ndim >= 4:
                spec = PartitionSpec("data", "space")
                if value.shape[1] % self.space:
                    raise ValueError(
                        f"{name} has {value.shape[1]} voxels along its first axis, which do not "
                        f"divide over parallel.space={self.space}: change the patch size"
                    )
            sharding = NamedSharding(self.mesh, spec)
            placed[name] = jax.make_array_from_process_local_data(sharding, value)
        return placed

    def replicate(self, tree: Any) -> Any:
        """A full copy of `tree` on every device (with pmap's leading axis where that is used)."""
        if jax.process_count() > 1:
            placed = jax.tree.map(lambda x: _replicate_across_processes(x, self._everywhere), tree)
        else:
            # What a checkpoint gave is committed to one device; jit alone would not move it.
            placed = jax.device_put(tree, self._everywhere)
        if self.is_pmap:
            return self._repeat(placed)
        if jax.process_count() > 1:
            return placed
        # The copy matters: the step donates its state, and must not eat the caller's arrays.
        return jax.jit(lambda t: jax.tree.map(jnp.copy, t))(placed)

    def single(self, tree: Any) -> Any:
        """The undoing of `replicate`: one copy, as the checkpoint and the evaluation see it."""
        return self._first(tree) if self.is_pmap else tree

    def compile(self, step: Step, state: Any, batch: Any) -> Any:
        """Compiles `step` ahead of time for the given (placed) state and batch.

        The state is donated: keep the returned one only.
        """
        quickly = self.settings.quick_compile and jax.default_backend() == "cpu"
        options = _QUICKLY if quickly else None
        if self.is_pmap:
            mapped = jax.pmap(
                _with_axis(step),
                axis_name="data",
                devices=list(self.mesh.devices.flat) if jax.process_count() == 1 else None,
                donate_argnums=0,
            )
            if jax.process_count() > 1:
                # To be lowered, pmap wants this process' slices; what it compiles takes them all.
                state, batch = jax.tree.map(_local_slices, (state, batch))
            return mapped.lower(state, batch).compile(compiler_options=options)
        compiled = jax.jit(step, donate_argnums=0, out_shardings=self._everywhere)
        return compiled.lower(state, batch).compile(compiler_options=options)

    def fetch(self, metrics: Any) -> dict[str, float]:
        """Scalars on the host; waits for the step that makes them."""
        if self.is_pmap:
            metrics = {name: value.addressable_shards[0].data for name, value in metrics.items()}
        fetched = jax.device_get(metrics)
        return {name: float(np.ravel(value)[0]) for name, value in fetched.items()}


def _with_axis(step: Step) -> Step:
    @functools.wraps(step)
    def mapped(state, batch):
        with batch_axis("data"):
            return step(state, batch)

    return mapped


def _holds_volumes(arrays: HostBatch) -> bool:
    if "image" in arrays:
        return arrays["image"].ndim == 5
    return "label" in arrays and arrays["label"].ndim == 4


def _stacked(value: np.ndarray, count: int) -> np.ndarray:
    if value.shape[0] % count:
        raise ValueError(
            f"{value.shape[0]} local samples do not divide over {count} devices: change batch_size"
        )
    return value.reshape(count, value.shape[0] // count, *value.shape[1:])


def _local_slices(x: jax.Array) -> jax.Array:
    """Of pmap's leading axis, those on this process' devices."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            _local_slices(jax.random.key_data(x)), impl=jax.random.key_impl(x)
        )
    parts = [shard.data for shard in x.addressable_shards]
    mesh = Mesh(np.array([part.device for part in parts]), "data")
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return jax.make_array_from_single_device_arrays((len(parts), *x.shape[1:]), sharding, parts)


def _replicate_across_processes(x: jax.Array, sharding: NamedSharding) -> jax.Array:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = _replicate_across_processes(jax.random.key_data(x), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    value = np.asarray(x)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
