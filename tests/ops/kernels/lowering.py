"""Lowering and compiling Pallas kernels for machines that are not there."""

import os
import re

import jax
import numpy as np
import pytest
from jax.sharding import (
    AbstractDevice,
    AbstractMesh,
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
)


def gpu_kernels(f, *arguments):
    """Names of the Triton kernels that `f` runs on an NVIDIA GPU, in order."""
    kind = AbstractDevice(device_kind="NVIDIA H100", num_cores=None, platform="gpu")
    mesh = AbstractMesh((1,), ("all",), (AxisType.Explicit,), abstract_device=kind)
    arguments = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arguments]
    with jax.sharding.use_abstract_mesh(mesh):  # from jax 0.11 on kernels ask which GPU
        lowered = jax.jit(f).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    calls = [line for line in lowered.splitlines() if "__gpu$xla.gpu.triton" in line]
    return [re.search(r'\bname = "(\w+)"', line).group(1) for line in calls]


def tpu_kernels(f, *arguments):
    """Number of Mosaic kernels that `f` runs on a TPU."""
    lowered = jax.jit(f).trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()
    return lowered.count("@tpu_custom_call")


def compile_for_tpu(f, topology, *arguments):
    """`f` compiled for one device of a TPU topology; skips the test where libtpu is missing."""
    pytest.importorskip("libtpu")
    from jax.experimental import topologies

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    devices = topologies.get_topology_desc(topology, "tpu").devices
    mesh = Mesh(np.array(devices[:1]), ("all",))
    place = NamedSharding(mesh, PartitionSpec())
    arguments = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place) for a in arguments]
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return jax.jit(f).trace(*arguments).lower(lowering_platforms=("tpu",)).compile()
