"""Runs in work folders: train one, open a trained one, score it."""

import dataclasses
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.configuration import ConfigError
from jaxmedgen.data.build import Sources, build_sources
from jaxmedgen.data.grid_affines import affine_of, common_affine
from jaxmedgen.data.label_map import remap
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.data.sources import DatasetInfo, subset
from jaxmedgen.data.splits import unclear_patients
from jaxmedgen.data.unpaired import Origin
from jaxmedgen.experiments.atlas import write_atlas
from jaxmedgen.experiments.data_description import describe_data, read_description
from jaxmedgen.experiments.evaluation import CaseResult, evaluate_source
from jaxmedgen.experiments.samples import write_samples
from jaxmedgen.experiments.study_identity import refuse_other_data
from jaxmedgen.experiments.training import claim_workdir, predictor, size_multiple, train
from jaxmedgen.nets.group_unet import GroupUNet3D
from jaxmedgen.nets.network_cost import network_cost
from jaxmedgen.report.pictures import save_png, three_planes
from jaxmedgen.systems.base import (
    CanPredict,
    CanSample,
    HasAtlas,
    System,
    build_system,
    evaluation_variables,
)
from jaxmedgen.train.checkpoint import Checkpointer
from jaxmedgen.train.progress import Progress
from jaxmedgen.train.trainable import FitResult
from jaxmedgen.types import Variables

_SHOWN = 3
"""Subjects or samples shown after training."""


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run's configuration, data description and system, with weights on demand.

    Where the run was trained on slices of hemispheres, `origin` is how volumes are cut into them;
    where it was trained on a user's folder, `patients` are those that trained.
    """

    workdir: pathlib.Path
    config: ConfigDict
    info: DatasetInfo
    preprocessing: Preprocessing
    system: System
    label_map: Mapping[int, int] | None = None
    origin: Origin | None = None
    patients: tuple[str, ...] = ()

    def remap(self, label: np.ndarray, class_names: tuple[str, ...] = ()) -> np.ndarray:
        """File values -> predicted classes, as in the training data.

        Args:
            label: values of a file.
            class_names: of labels whose values are classes already (`written_labels`): the map of
                the training files must not touch them; those of the run's own names stay.
        """
        if class_names and class_names == self.info.class_names:
            return label
        if self.origin is not None:
            if self.origin.label_map is not None and not class_names:
                label = remap(label, self.origin.label_map)
            return np.isin(label, self.origin.finding).astype(np.int32)
        if self.label_map is not None and not class_names:
            label = remap(label, self.label_map)
        return self.merged(label)

    def merged(self, label: np.ndarray) -> np.ndarray:
        """Classes of the training labels -> predicted classes."""
        if self.config.data.target_of:
            label = np.asarray(self.config.data.target_of, np.int32)[label]
        return label

    def variables(self, kind: str = "last") -> tuple[dict[str, Variables], int]:
        """Evaluation variables by player, and the step they are from.

        Raises:
            CheckpointError: there is no such checkpoint.
        """
        shape = self.preprocessing.shape or tuple(self.config.patch_size)
        if tuple(self.config.patch_size):
            shape = tuple(self.config.patch_size)
        shape = shape or (2 * size_multiple(self.system, self.config),) * len(self.info.spacing)
        example = {
            "image": np.zeros((1, *shape, len(self.info.channel_names) or 1), np.float32),
            "label": np.zeros((1, *shape), np.int32),
            "index": np.zeros(1, np.int32),
        }
        abstract = jax.eval_shape(self.system.init, jax.random.key(0), example)
        like = jax.tree.map(_zeros, abstract)
        checkpoints = Checkpointer(self.workdir, read_only=True)
        state, _ = checkpoints.restore(like, kind)
        checkpoints.close()
        return evaluation_variables(state), int(state.step)


def train_run(
    config: ConfigDict, workdir: pathlib.Path, *, progress: Progress | None = None
) -> FitResult:
    """Trains a configuration on its data: what ``bin/train`` does.

    Raises:
        ConfigError: `workdir` belongs to a run with other settings, patients or classes.
    """
    sources = build_sources(config.data)
    system = build_system(config, sources.info)
    claim_workdir(config, workdir)
    refuse_other_data(workdir, sources.info, config, sources.train)
    if jax.process_index() == 0:
        describe_data(workdir, sources.info, config, sources.train)
        size = size_of_network(system, config)
        unclear = unclear_names(sources) if config.data.get("folder") else ""
        for note in (size, unclear):
            if note and progress is not None:
                progress.say(note)
    result = train(config, sources, system, workdir, progress=progress)
    if jax.process_index() == 0:
        show_run(config, sources, system, result, workdir)
    return result


def unclear_names(sources: Sources) -> str:
    """A note on names of all parts that may be of one patient, or empty."""
    parts = (sources.train, sources.validation, sources.test)
    return unclear_patients(name for part in parts for name in part.info.case_names)


def size_of_network(system: System, config: ConfigDict) -> str | None:
    """Parameters, expanded kernels and operations of a group network in a line; None of others."""
    net = getattr(system, "net", None)
    shape = tuple(config.patch_size) or tuple(config.data.shape)
    if not isinstance(net, GroupUNet3D) or not shape:
        return None
    return str(network_cost(net, (*shape, net.n_channels_in)))


def show_run(
    config: ConfigDict, sources: Sources, system: System, result: FitResult, workdir: pathlib.Path
) -> None:
    """What it does: ``atlas/``; ``predictions/`` of validation subjects, else ``samples/``."""
    variables = evaluation_variables(result.state)
    if isinstance(system, HasAtlas):
        affine = common_affine(sources.train)
        write_atlas(system, variables, sources.info.spacing, workdir / "atlas", affine)
    if isinstance(system, CanPredict) and len(sources.validation):
        shown = subset(sources.validation, range(min(_SHOWN, len(sources.validation))))
        cases = evaluate_source(predictor(system, config), variables, shown)
        for number, case in enumerate(cases):
            affine = affine_of(shown, number)
            save_case(case, sources.info.spacing, workdir / "predictions", affine)
    elif isinstance(system, CanSample) and getattr(system, "makes_samples", True):
        write_samples(config, sources, system, variables, workdir / "samples", _SHOWN, config.seed)


def save_case(
    case: CaseResult, spacing: tuple[float, ...], folder: pathlib.Path, affine: np.ndarray
) -> None:
    """One prediction as a picture beside its reference and as NIfTI on the network's grid.

    Args:
        case: image, reference and prediction.
        spacing: mm an axis.
        folder: for the files.
        affine: voxel index to mm of the network's grid, `data.grid_affines`.
    """
    picture = three_planes(case.image, case.label, case.prediction, spacing=spacing)
    save_png(folder / f"{case.case}.png", picture)
    write_volume(folder / f"{case.case}.nii.gz", case.prediction.astype(np.uint8), affine)


def open_run(workdir: pathlib.Path, overrides: Mapping[str, str] | None = None) -> TrainedRun:
    """Opens a trained run.

    Args:
        workdir: of the run.
        overrides: settings by dotted key that are no part of what was trained, those of the group
            ``sampling``: how a model draws.

    Raises:
        ConfigError: the folder holds no run, or one of a version with fewer settings; an override
            of another setting.
    """
    paths = [workdir / "config.json", workdir / "dataset.json"]
    missing = [p.name for p in paths if not p.exists()]
    if missing:
        raise ConfigError(
            f"{workdir} has no {' and no '.join(missing)}: it is not a trained run "
            "(bin/train --config ... --workdir ...)"
        )
    config = configuration.from_json(paths[0].read_text())
    for key, value in (overrides or {}).items():
        if not key.startswith("sampling."):
            raise ConfigError(
                f"--config.{key}={value}: a trained run keeps its settings, only those of "
                "'sampling' may change"
            )
        configuration.set_value(config, key, value)
    data = read_description(paths[1])
    info = data.info
    try:
        system = build_system(config, info)
    except AttributeError as error:
        if not isinstance(error.args[0], KeyError):  # of a ConfigDict
            raise
        setting = str(error.args[0].args[0]).partition("\n")[0]
        raise ConfigError(
            f"{paths[0]} has no setting {setting}, which this version asks for: train the run "
            "again, or add the setting from configs/"
        ) from error
    return TrainedRun(
        workdir,
        config,
        info,
        data.preprocessing,
        system,
        data.label_map,
        data.origin,
        data.patients,
    )


def _zeros(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(0)
    return jnp.zeros(leaf.shape, leaf.dtype)
