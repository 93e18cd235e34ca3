"""Samples of a configuration or of a trained run: what ``bin/sample`` does."""

import dataclasses
import pathlib

from ml_collections import ConfigDict

from jaxmedgen.data.build import build_sources
from jaxmedgen.experiments.label_files import write_label_maps
from jaxmedgen.experiments.run_evaluation import as_seen
from jaxmedgen.experiments.runs import open_run
from jaxmedgen.experiments.samples import Layout, write_deformed, write_samples
from jaxmedgen.experiments.shape_files import write_shapes
from jaxmedgen.experiments.translations import write_translated
from jaxmedgen.systems.base import (
    CanCodeLabels,
    CanDeform,
    CanGenerate,
    CanSample,
    CanTranslate,
    build_system,
)

_NEEDS_TRAINING = CanDeform | CanTranslate | CanCodeLabels | CanGenerate


def sample_run(
    config: ConfigDict | None,
    workdir: pathlib.Path | None,
    output: pathlib.Path,
    count: int,
    seed: int,
    method: str = "",
    layout: Layout = "plain",
    condition: str = "",
    kind: str = "last",
) -> None:
    """Writes `count` labelled synthetic scans and ``samples.png``.

    Of a model of label maps: labels alone, made by a method of `label_synthesis`.

    Args:
        config: for systems without weights; None for a trained run.
        workdir: of a trained run.
        output: folder.
        count: samples.
        seed: of the samples.
        method: for models of label maps and of latent levels.
        layout: of the files of labelled images, see `experiments.samples`.
        condition: for models of latent levels, see `experiments.shape_files`.
        kind: checkpoint of a trained run, ``last`` or ``best``.

    Raises:
        ValueError: the system has no sampler, or no methods.
    """
    variables = {}
    if config is None:
        run = open_run(workdir)
        config, system = run.config, run.system
        sources = build_sources(config.data)
        if isinstance(system, CanSample | _NEEDS_TRAINING):
            variables, _ = run.variables(kind)
    else:
        sources = build_sources(config.data)
        system = build_system(config, sources.info)
    if method and not isinstance(system, CanCodeLabels | CanGenerate):
        raise ValueError(f"--method {method} is for models of label maps, not {config.system}")
    if condition and not isinstance(system, CanGenerate):
        raise ValueError(f"--condition {condition} is for models of shapes, not {config.system}")
    if isinstance(system, CanSample):
        write_samples(config, sources, system, variables, output, count, seed, layout)
    elif isinstance(system, _NEEDS_TRAINING) and not variables:
        raise ValueError(f"{config.system} makes samples by what it has learned: give --workdir")
    elif isinstance(system, CanDeform):
        sources = dataclasses.replace(sources, train=as_seen(system, sources.train))
        write_deformed(sources, system, variables, output, count, seed, layout)
    elif isinstance(system, CanTranslate):
        write_translated(sources, system, variables, output, count, seed)
    elif isinstance(system, CanCodeLabels):
        write_label_maps(sources, system, variables, output, count, seed, method)
    elif isinstance(system, CanGenerate):
        write_shapes(sources, system, variables, output, count, seed, method, condition)
    else:
        raise ValueError(f"{config.system} has no sampler")
