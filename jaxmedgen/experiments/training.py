"""One training run in a work folder: what ``bin/train`` and each run of an ablation do."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.augment.sides import mirrored_classes, swapped_labels
from jaxmedgen.configuration import ConfigError
from jaxmedgen.data.build import Sources
from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.data.sources import Checked
from jaxmedgen.experiments.evaluation import Predictor, loss_validator, validator
from jaxmedgen.experiments.training_pictures import picture_writer
from jaxmedgen.systems.base import CanCheckRecords, CanPredict, CanShow, CanValidate, System
from jaxmedgen.train.environment import describe_environment, use_compilation_cache, write_json
from jaxmedgen.train.interrupt import StopSignal
from jaxmedgen.train.loop import fit
from jaxmedgen.train.parallel import Parallel, ParallelSettings
from jaxmedgen.train.progress import Progress
from jaxmedgen.train.trainable import FitResult, LoopSettings

_MAY_CHANGE = (
    "eval_every",
    "checkpoint_every",
    "log_every",
    "show_every",
    "profile_at",
    "parallel.backend",
    "parallel.data",
    "parallel.space",
    "parallel.quick_compile",
)
"""Settings that a resumed run may have otherwise than the run it goes on with."""


def claim_workdir(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Writes ``config.json`` and ``environment.json``, or checks that they fit this run.

    Raises:
        ConfigError: the folder belongs to a run with other settings. Settings that are new since
            it began are no difference where they are off.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "config.json"
    if path.exists():
        before = configuration.from_json(path.read_text())
        changed = [
            line
            for line in configuration.changes_since(before, config)
            if line.split(":")[0] not in _MAY_CHANGE
        ]
        if changed:
            raise ConfigError(
                f"{workdir} holds a run with other settings ({'; '.join(changed[:4])}): "
                "use another --workdir, or the same settings to go on"
            )
    if jax.process_index() == 0:
        write_json(path, config.to_dict())
        write_json(workdir / "environment.json", describe_environment())


def loop_settings(config: ConfigDict) -> LoopSettings:
    """The loop's part of a configuration."""
    return LoopSettings(
        steps=config.steps,
        batch_size=config.batch_size,
        seed=config.seed,
        accumulate=config.accumulate,
        log_every=config.log_every,
        eval_every=config.eval_every,
        checkpoint_every=config.checkpoint_every,
        show_every=config.get("show_every", 0),
        profile_at=config.profile_at,
        patience=config.get("patience", 0),
    )


def model_steps(config: ConfigDict, own: int) -> int:
    """Optimiser steps of an arm's augmentation model: ``config.model_steps``, or else its `own`."""
    return config.get("model_steps", 0) or own


def predictor(system: CanPredict, config: ConfigDict, class_names: Sequence[str] = ()) -> Predictor:
    """The whole-volume predictor of a configuration.

    Args:
        system: what predicts.
        config: of its training.
        class_names: of what it predicts; needed where predictions are averaged over mirroring, in
            which left and right change places.
    """
    window = tuple(config.patch_size) or tuple(config.data.shape) or None
    mirrored: list[int] = []
    if class_names:
        target_of = tuple(config.data.get("target_of", ()))
        settings = config.get("augment", {})
        pairs = swapped_labels(settings, class_names, target_of)
        mirrored = mirrored_classes(pairs, len(class_names))
    return Predictor(system, window, multiple=size_multiple(system, config), mirrored=mirrored)


def size_multiple(system: System, config: ConfigDict) -> int:
    """What the axes of an image must be multiples of.

    The system's own ``size_multiple``, or that of a U-Net which halves between
    ``config.net.features``.
    """
    levels = len(config.net.get("features", (1,)))
    return getattr(system, "size_multiple", 2 ** (levels - 1))


def train(
    config: ConfigDict,
    sources: Sources,
    system: System,
    workdir: pathlib.Path,
    *,
    stop: StopSignal | None = None,
    progress: Progress | None = None,
    cache: pathlib.Path | None = None,
    name: str | None = None,
) -> FitResult:
    """Trains `system` on ``sources.train``, from the last checkpoint in `workdir` if any.

    Args:
        config: a configuration of `configs/`.
        sources: training and validation subjects (validation may be empty).
        system: what is trained.
        workdir: the run's folder.
        stop: an active signal catcher, or None for one of its own.
        progress: where to show progress.
        cache: folder of compiled programs; ``workdir/cache`` by default.
        name: of the run in the display.

    Raises:
        ConfigError: `workdir` belongs to a run with other settings.
        Interrupted, NonFiniteError, CheckpointError: see `train.loop.fit`.
    """
    use_compilation_cache(cache or workdir / "cache")
    claim_workdir(config, workdir)
    settings = loop_settings(config)
    checks = isinstance(system, CanCheckRecords)
    stream = training_stream(
        Checked(sources.train, system.check_record) if checks else sources.train,
        batch_size=config.batch_size,
        seed=config.seed,
        patch_size=tuple(config.patch_size) or None,
        foreground_probability=config.foreground_probability,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    validate: Any = None
    if config.eval_every and len(sources.validation) and isinstance(system, CanPredict):
        validate = validator(predictor(system, config), sources.validation)
    elif config.eval_every and len(sources.validation) and isinstance(system, CanValidate):
        validate = loss_validator(system, sources.validation)
        settings = dataclasses.replace(settings, best_metric="loss")
    if settings.patience and validate is None:
        raise ConfigError(
            f"config.patience={settings.patience} without validation subjects: set data.validation"
        )
    show: Any = None
    if settings.show_every and isinstance(system, CanShow):
        show = picture_writer(system, config, sources.train, workdir / "samples")
    return fit(
        system,
        stream,
        settings,
        workdir,
        parallel=Parallel(ParallelSettings(**config.parallel)),
        validate=validate,
        show=show,
        stop=stop,
        progress=progress,
        name=name,
    )
