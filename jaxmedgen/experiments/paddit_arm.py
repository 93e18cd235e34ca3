"""Arms that deform by PADDIT's velocities, sampled for the labelled subjects of one run.

Template and samples see the labelled training subjects of the run and nobody else. Arms that take
the same samples share one model.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.posterior import PosteriorAugmentation, PosteriorMode
from jaxmedgen.augment.presets import configured
from jaxmedgen.augment.spatial import Spatial
from jaxmedgen.data.sources import ArraySource, Source, joined
from jaxmedgen.experiments.model_training import alone, counted_seconds, model_seconds
from jaxmedgen.experiments.training import train
from jaxmedgen.ops.control_grids import random_bspline_displacement
from jaxmedgen.systems.base import PlayerVariables, System, build_system, evaluation_variables
from jaxmedgen.train.metrics_log import read_metrics
from jaxmedgen.train.progress import Progress
from jaxmedgen.types import Augment, SubjectAugment

PROBABILITY = 0.5
_CURVATURE = 2000
"""Coordinates a subject up to which the sampler's mass takes in the likelihood's curvature."""

_LARGEST_RHAT = 1.1
_LEAST_ESS = 10
_SAMPLING = 4
"""Iterations that sample, as in the configuration: two that estimate, two with all frozen."""

Kind = PosteriorMode | Literal["map", "geodesic", "generic"]


class Model(NamedTuple):
    """PADDIT's model of some subjects.

    Attributes:
        system: that was trained.
        variables: of its players.
        seconds: that its training took, over all its calls.
        folder: of the training.
        warnings: what looked wrong with its samples.
    """

    system: System
    variables: PlayerVariables
    seconds: float
    folder: pathlib.Path
    warnings: tuple[str, ...] = ()


def train_paddit(
    config: ConfigDict,
    labelled: Source,
    workdir: pathlib.Path,
    seed: int,
    kind: Kind,
    *,
    unlabelled: Source | None = None,
    progress: Progress | None = None,
) -> tuple[Augment | SubjectAugment, float, tuple[str, ...]]:
    """Estimates the template of some subjects, samples their velocities, and deforms by them.

    Args:
        config: of the segmenter's training; other stages of its augmentation preset are kept, its
            group ``paddit`` is `model_config`'s settings.
        labelled: the subjects.
        workdir: folder of the models of these subjects.
        seed: of the chains.
        kind: a mode of `PosteriorAugmentation`; ``map`` has the modes only, ``geodesic`` shoots
            instead of the exponential; ``generic`` is an elastic deformation (B-spline) as large as
            the posterior's samples (root mean square), for comparison. ``prior`` needs no model.
        unlabelled: images of further training subjects that template and prior are estimated from
            too, and whose samples ``cross`` and ``swap`` take.
        progress: where to show progress.

    Returns:
        The transform, what its model has cost in seconds, and what looked wrong with it.

    Raises:
        ValueError: the segmenter is trained on patches, unlabelled subjects without images, or
            settings that do not fit.
    """
    if tuple(config.patch_size):
        raise ValueError(
            f"the paddit arms deform whole images, not patches of {tuple(config.patch_size)}: set "
            "--config.patch_size='()'"
        )
    spacing = tuple(float(s) for s in labelled.info.spacing)
    merged = tuple(config.data.get("target_of", ()))  # the policy sees labels after merging
    names = tuple(config.data.target_names) if merged else labelled.info.class_names
    policy = configured(config.augment, spacing, names, target_of=merged)
    settings = config.get("paddit", {})
    if kind == "prior":
        made = model_config(labelled, seed, kind, settings)
        flow = build_system(made, labelled.info).flow
        hyper = flow.prior.start(made.model.deviation)
        draws = jnp.zeros((1, 1, *flow.prior.coordinates))
        prior = PosteriorAugmentation(flow, hyper, draws, "prior", policy, spacing, PROBABILITY)
        return prior, 0.0, ()
    seen = labelled if unlabelled is None else _with_unlabelled(labelled, unlabelled)
    model = fit_model(seen, workdir, seed, kind, settings, progress=progress)
    (variables,) = model.variables.values()
    draws = variables["chains"]["draws"]
    draws = draws.reshape(len(seen), -1, *draws.shape[3:])
    mode = kind if kind in ("cross", "swap") else "posterior"
    hyper = variables["params"]["prior"]
    augmentation = PosteriorAugmentation(
        model.system.flow, hyper, draws, mode, policy, spacing, PROBABILITY
    )
    if kind == "generic":
        augmentation = generic(
            augmentation, tuple(variables["params"]["template"].shape[:-1]), seed
        )
    return augmentation, model.seconds, model.warnings


def _with_unlabelled(labelled: Source, unlabelled: Source) -> Source:
    """The labelled subjects, then the others with empty labels, which velocities do not depend on.

    Raises:
        ValueError: subjects without images.
    """
    if not labelled.info.channel_names:
        raise ValueError(
            "model_unlabelled=True for label maps without images: there is nothing unlabelled to "
            "show, set --config.model_unlabelled=False"
        )
    both = joined([labelled, unlabelled])
    records = [
        {**record, "label": record.get("label", np.zeros(record["image"].shape[:-1], np.int32))}
        for record in both.records
    ]
    return ArraySource(records, both.info)


def fit_model(
    labelled: Source,
    workdir: pathlib.Path,
    seed: int,
    kind: Kind,
    settings: Mapping[str, Any] | ConfigDict | None = None,
    *,
    progress: Progress | None = None,
) -> Model:
    """The model of some subjects; a stopped training is gone on with, a finished one is read.

    Args:
        labelled: the subjects.
        workdir: folder of the models of these subjects; compiled programs lie beside it.
        seed: of the chains.
        kind: as in `train_paddit`; all but ``map`` and ``geodesic`` take the same model.
        settings: see `model_config`.
        progress: where to show progress, and what looks wrong with the samples.

    Raises:
        ValueError: settings that do not fit.
    """
    config = model_config(labelled, seed, kind, settings)
    system = build_system(config, labelled.info)
    folder = workdir / (f"paddit-{kind}" if kind in ("map", "geodesic") else "paddit")
    with counted_seconds(folder):
        result = train(
            config,
            alone(labelled),
            system,
            folder,
            progress=progress,
            cache=workdir.parent / "cache",
            name="paddit",
        )
    warnings = sample_warnings(read_metrics(folder / "metrics.jsonl", split="train"))
    if progress is not None:
        for text in warnings:
            progress.say(f"warning: {text}")
    variables = evaluation_variables(result.state)
    return Model(system, variables, model_seconds(folder), folder, warnings)


def sample_warnings(lines: Sequence[Mapping[str, float | int | str | None]]) -> tuple[str, ...]:
    """What is wrong with the samples that a model keeps, a sentence each; empty if nothing is.

    Args:
        lines: of ``metrics.jsonl`` with ``step``, split ``train``; samples are of the last one.
            Modes have no chains, whose numbers are then null.
    """
    last = lines[-1] if lines else {}
    rhat, ess, folding = (last.get(name) for name in ("rhat", "ess", "folding"))
    found = []
    if rhat is not None and rhat > _LARGEST_RHAT:
        found.append(
            f"PADDIT's chains have not mixed (split R-hat {rhat:.2f} > {_LARGEST_RHAT} for the "
            "worst subject): more thinning or draws"
        )
    if ess is not None and ess < _LEAST_ESS:
        found.append(
            f"PADDIT's samples are few (effective sample size {ess:.0f} < {_LEAST_ESS} for the "
            "worst subject): more thinning or draws"
        )
    if folding:
        found.append(f"PADDIT's deformations fold at {folding:.2g} % of the voxels")
    return tuple(found)


def generic(
    model: PosteriorAugmentation, shape: tuple[int, ...], seed: int, count: int = 64
) -> Augmentation:
    """Elastic deformations by a B-spline grid, as large as the model's samples in root mean square.

    They are of the policy's grid and distribution and take the place of its own elastic ones.

    Args:
        model: whose size to match.
        shape: of the images.
        seed: of the draws that sizes are estimated from.
        count: their number.
    """
    keys = jax.random.split(jax.random.key(seed), count)
    case = jnp.arange(count) % model.draws.shape[0]
    mm = jnp.asarray(model.spacing)

    def size(u):
        return jnp.sqrt(jnp.mean(jnp.sum((u * mm) ** 2, -1)))

    wanted = jax.jit(lambda keys: size(model.displacement(case, keys)))(keys)
    spatial = model.policy.spatial or Spatial(spacing=model.spacing)
    made = functools.partial(
        random_bspline_displacement,
        shape=shape,
        spacing=model.spacing,
        amplitude=1.0,
        controls=spatial.elastic_controls,
        locked_layers=spatial.elastic_locked,
        distribution=spatial.elastic_distribution,
    )
    amplitude = float(wanted / jax.jit(lambda keys: size(made(keys)))(keys))
    elastic = Draw(amplitude, amplitude, p=model.probability)
    return dataclasses.replace(model.policy, spatial=dataclasses.replace(spatial, elastic=elastic))


def model_config(
    labelled: Source,
    seed: int,
    kind: Kind,
    settings: Mapping[str, Any] | ConfigDict | None = None,
) -> ConfigDict:
    """The `paddit` configuration for images of the subjects' shape.

    Args:
        labelled: the subjects.
        seed: of the chains.
        kind: as in `train_paddit`.
        settings: ``iterations`` of EM, of which the last four sample; ``chains``, ``draws`` and
            ``thinning`` of the sampler, which ``map`` has not. 0, or no such key: the arm's own.

    Raises:
        ValueError: too few iterations.
    """
    given = {key: value for key, value in (settings or {}).items() if value}
    iterations = given.pop("iterations", 0)
    if iterations and iterations <= _SAMPLING:
        raise ValueError(
            f"paddit.iterations={iterations} must be more than {_SAMPLING}: so many sample, the "
            "others look for modes"
        )
    shape = tuple(int(n) for n in np.shape(labelled[0]["image"])[:-1])
    options = {"map": "arm=map", "geodesic": "flow=geodesic"}
    made = configuration.load_config(f"paddit:cpu,{options.get(kind, 'arm=paddit')}")
    with made.unlocked():
        made.seed, made.batch_size, made.eval_every = seed, len(labelled), 0
        made.data.shape = shape
        sampling, axes = made.model.sampling, len(shape)
        if axes == 3:  # volumes: fewer transitions, for the sake of time
            sampling.update(chains=1, draws=min(sampling.draws, 10), thinning=2)
        if kind != "map":
            sampling.update(given)
        if iterations:
            made.steps, made.model.rounds = iterations, iterations - 2
            made.model.map_rounds = iterations - _SAMPLING
        points = math.prod(math.ceil((n - 1) / 8) + 1 for n in shape) * axes
        if points > _CURVATURE:
            sampling.mass = "prior"
        elif axes == 3 and sampling.mass == "curvature":
            sampling.mass = "template"
        made.parallel.update(backend="jit", data=1, space=1)
    return made
