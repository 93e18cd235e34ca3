"""Arms that deform by PADDIT's velocities, sampled for the labelled subjects of one run.

Template and samples see the labelled training subjects of the run and nobody else. Arms that take
the same samples share one model.
"""

import dataclasses
import json
import math
import pathlib
import time
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.posterior import PosteriorAugmentation, PosteriorMode
from jaxmedgen.augment.presets import preset
from jaxmedgen.augment.spatial import Spatial
from jaxmedgen.data.sources import ArraySource, Source, joined
from jaxmedgen.experiments.model_training import alone
from jaxmedgen.experiments.training import train
from jaxmedgen.ops.control_grids import random_bspline_displacement
from jaxmedgen.systems.base import PlayerVariables, System, build_system, evaluation_variables
from jaxmedgen.train.environment import write_json
from jaxmedgen.train.progress import Progress
from jaxmedgen.types import Augment, SubjectAugment

PROBABILITY = 0.5
_CURVATURE = 2000
"""Coordinates a subject up to which the sampler's mass takes in the likelihood's curvature."""

Kind = PosteriorMode | Literal["map", "geodesic", "generic"]


class Model(NamedTuple):
    """PADDIT's model of some subjects.

    Attributes:
        system: that was trained.
        variables: of its players.
        seconds: that its training took.
        folder: of the training.
    """

    system: System
    variables: PlayerVariables
    seconds: float
    folder: pathlib.Path


def train_paddit(
    config: ConfigDict,
    labelled: Source,
    workdir: pathlib.Path,
    seed: int,
    kind: Kind,
    *,
    unlabelled: Source | None = None,
    progress: Progress | None = None,
) -> tuple[Augment | SubjectAugment, float]:
    """Estimates the template of some subjects, samples their velocities, and deforms by them.

    Args:
        config: of the segmenter's training; other stages of its augmentation preset are kept.
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
        The transform, and what its model has cost in seconds.

    Raises:
        ValueError: the segmenter is trained on patches, or unlabelled subjects without images.
    """
    if tuple(config.patch_size):
        raise ValueError(
            f"the paddit arms deform whole images, not patches of {tuple(config.patch_size)}: set "
            "--config.patch_size='()'"
        )
    spacing = tuple(float(s) for s in labelled.info.spacing)
    policy = preset(config.augment.preset, spacing, classes=labelled.info.num_classes)
    if kind == "prior":
        made = model_config(labelled, seed, kind)
        flow = build_system(made, labelled.info).flow
        hyper = flow.prior.start(made.model.deviation)
        draws = jnp.zeros((1, 1, *flow.prior.coordinates))
        prior = PosteriorAugmentation(flow, hyper, draws, "prior", policy, spacing, PROBABILITY)
        return prior, 0.0
    seen = labelled if unlabelled is None else _with_unlabelled(labelled, unlabelled)
    model = fit_model(seen, workdir, seed, kind, progress=progress)
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
    return augmentation, model.seconds


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
    *,
    progress: Progress | None = None,
) -> Model:
    """The model of some subjects; a stopped training is gone on with, a finished one is read.

    Args:
        labelled: the subjects.
        workdir: folder of the models of these subjects; compiled programs lie beside it.
        seed: of the chains.
        kind: as in `train_paddit`; all but ``map`` and ``geodesic`` take the same model.
        progress: where to show progress.
    """
    config = model_config(labelled, seed, kind)
    system = build_system(config, labelled.info)
    folder = workdir / (f"paddit-{kind}" if kind in ("map", "geodesic") else "paddit")
    start = time.perf_counter()
    result = train(
        config,
        alone(labelled),
        system,
        folder,
        progress=progress,
        cache=workdir.parent / "cache",
        name="paddit",
    )
    cost = folder / "seconds.json"
    if not cost.exists():
        write_json(cost, {"seconds": time.perf_counter() - start})
    seconds = float(json.loads(cost.read_text())["seconds"])
    return Model(system, evaluation_variables(result.state), seconds, folder)


def generic(
    model: PosteriorAugmentation, shape: tuple[int, ...], seed: int, count: int = 64
) -> Augmentation:
    """Elastic deformations by a B-spline grid, as large as the model's samples in root mean square.

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
    unit = jax.jit(
        lambda keys: size(random_bspline_displacement(keys, shape, model.spacing, amplitude=1.0))
    )(keys)
    amplitude = float(wanted / unit)
    spatial = model.policy.spatial or Spatial(spacing=model.spacing)
    elastic = Draw(amplitude, amplitude, p=model.probability)
    return dataclasses.replace(model.policy, spatial=dataclasses.replace(spatial, elastic=elastic))


def model_config(labelled: Source, seed: int, kind: Kind) -> ConfigDict:
    """The `paddit` configuration for images of the subjects' shape."""
    shape = tuple(int(n) for n in np.shape(labelled[0]["image"])[:-1])
    options = {"map": "arm=map", "geodesic": "flow=geodesic"}
    made = configuration.load_config(f"paddit:cpu,{options.get(kind, 'arm=paddit')}")
    with made.unlocked():
        made.seed, made.batch_size, made.eval_every = seed, len(labelled), 0
        made.data.shape = shape
        sampling, axes = made.model.sampling, len(shape)
        if axes == 3:  # volumes: fewer transitions, for the sake of time
            sampling.update(chains=1, draws=min(sampling.draws, 10), thinning=2)
        points = math.prod(math.ceil((n - 1) / 8) + 1 for n in shape) * axes
        if points > _CURVATURE:
            sampling.mass = "prior"
        elif axes == 3 and sampling.mass == "curvature":
            sampling.mass = "template"
        made.parallel.update(backend="jit", data=1, space=1)
    return made
