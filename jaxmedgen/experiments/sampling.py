"""Samples of a configuration or of a trained run: what ``bin/sample`` does."""

import dataclasses
import pathlib
from collections.abc import Mapping

from ml_collections import ConfigDict

from jaxmedgen.data.build import build_sources
from jaxmedgen.experiments.label_files import LabelWishes, write_label_maps
from jaxmedgen.experiments.remodelling import latent_files
from jaxmedgen.experiments.run_evaluation import as_seen
from jaxmedgen.experiments.runs import open_run
from jaxmedgen.experiments.samples import Layout, write_deformed, write_samples
from jaxmedgen.experiments.shape_files import write_shapes
from jaxmedgen.experiments.translations import write_translated
from jaxmedgen.systems.base import (
    CanCodeLabels,
    CanDeform,
    CanSample,
    CanTranslate,
    build_system,
)
from jaxmedgen.systems.latent import CanGenerate, CanNavigate, CanReport

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
    *,
    overrides: Mapping[str, str] | None = None,
    style: str = "",
    vendor: str = "",
    wishes: LabelWishes | None = None,
) -> dict[str, object]:
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
        overrides: of the ``sampling`` settings of a trained run, by dotted key.
        style: ``own``, for systems that sample from label maps, see `write_samples`.
        vendor: likewise.
        wishes: for models of label maps.

    Returns:
        What a model of latent levels tells of its draws, see `shape_files.write_shapes`.

    Raises:
        ValueError: the system has no sampler, or no methods.
    """
    variables = {}
    if config is None:
        run = open_run(workdir, overrides)
        config, system = run.config, run.system
        sources = build_sources(config.data)
        if isinstance(system, CanSample | _NEEDS_TRAINING):
            variables, _ = run.variables(kind)
    else:
        sources = build_sources(config.data)
        system = build_system(config, sources.info)
    if overrides and not isinstance(system, CanReport):
        raise ValueError(f"{config.system} draws in one way: --config.sampling does not change it")
    if method and not isinstance(system, CanCodeLabels | CanGenerate):
        raise ValueError(f"--method {method} is for models of label maps, not {config.system}")
    if condition and not isinstance(system, CanGenerate):
        raise ValueError(f"--condition {condition} is for models of shapes, not {config.system}")
    if (style or vendor) and not isinstance(system, CanSample):
        raise ValueError(f"--style and --vendor are for images of label maps, not {config.system}")
    if layout != "plain" and not isinstance(system, CanSample | CanDeform):
        raise ValueError(
            f"--layout {layout} is for labelled images, not for what {config.system} writes"
        )
    if wishes not in (None, LabelWishes()) and not isinstance(system, CanCodeLabels):
        raise ValueError(f"{config.system} is no model of label maps: leave out its flags")
    if isinstance(system, CanSample):
        write_samples(
            config,
            sources,
            system,
            variables,
            output,
            count,
            seed,
            layout,
            style=style,
            vendor=vendor,
        )
    elif isinstance(system, _NEEDS_TRAINING) and not variables:
        raise ValueError(f"{config.system} makes samples by what it has learned: give --workdir")
    elif isinstance(system, CanDeform):
        sources = dataclasses.replace(sources, train=as_seen(system, sources.train))
        write_deformed(sources, system, variables, output, count, seed, layout)
    elif isinstance(system, CanTranslate):
        write_translated(sources, system, variables, output, count, seed)
    elif isinstance(system, CanCodeLabels):
        write_label_maps(sources, system, variables, output, count, seed, method, wishes)
    elif isinstance(system, CanNavigate) and (condition or method in latent_files.METHODS):
        names = tuple(config.get("targets", sources.train.info.class_names))
        return latent_files.write_latents(
            sources, system, variables, names, output, count, seed, method, condition
        )
    elif isinstance(system, CanGenerate):
        return write_shapes(sources, system, variables, output, count, seed, method, condition)
    else:
        raise ValueError(f"{config.system} has no sampler")
    return {}
