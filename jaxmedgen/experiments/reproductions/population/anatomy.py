"""Real anatomy: a template of label maps, with the others registered to it."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.label_map import read_label_map
from jaxmedgen.data.layouts import discover
from jaxmedgen.data.splits import train_test_split
from jaxmedgen.experiments.alignment import align_label_maps
from jaxmedgen.experiments.reproductions.record import Claim
from jaxmedgen.experiments.reproductions.synthseg import training_seconds
from jaxmedgen.experiments.runs import train_run
from jaxmedgen.metrics.groupwise import mean_pairwise_dice
from jaxmedgen.metrics.segmentation import dice_per_class
from jaxmedgen.ops.field_measures import folding_percentage
from jaxmedgen.ops.fields import identity_grid
from jaxmedgen.ops.resample import resample_labels
from jaxmedgen.systems.base import PlayerVariables, build_system, evaluation_variables
from jaxmedgen.systems.deformation.paddit import Paddit
from jaxmedgen.train.metrics_log import read_metrics
from jaxmedgen.train.progress import Progress

CONFIG = "paddit:cpu,data=label_maps"


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """Label maps before and after registration to their template.

    Attributes:
        classes: names of the tissues.
        pairs: Dice of each class over all pairs of training subjects, before and after.
        held_out: Dice of each class of subjects that had no part in the template, predicted by its
            labels at rest and registered to them.
        folding: per cent of folded voxels of all posterior samples and of held-out maps.
        last: scalars of the last iteration.
        seconds: of the training.
        pictures: ``atlas`` and ``modes``.
    """

    classes: tuple[str, ...]
    pairs: tuple[np.ndarray, np.ndarray]
    held_out: tuple[np.ndarray, np.ndarray]
    folding: float
    last: Mapping[str, Any]
    seconds: float
    pictures: dict[str, np.ndarray]


def run(folder: str, workdir: pathlib.Path, progress: Progress) -> Anatomy:
    """Builds the template (or takes the finished one) and scores it.

    Args:
        folder: of FreeSurfer label maps; 12 make the template, 4 are held out.
        workdir: of the training.
        progress: where to show it.
    """
    aligned = workdir.parent / "aligned"
    data = {"data.folder": str(aligned), "data.train": "0"}  # as bin/train --data has it
    data["data.cache"] = str(workdir.parent / "label_maps")
    config = load_config(CONFIG, data)
    values, _ = read_label_map(config.data.label_map)
    tissues = {value: int(config.data.target_of[fine]) for value, fine in values.items()}
    names = [case.name for case in discover(folder, contents="labels").cases]
    split = train_test_split(names, test_count=config.data.test, seed=config.data.seed)
    align_label_maps(pathlib.Path(folder), aligned, tissues, split.train)
    state = train_run(config, workdir, progress=progress).state
    sources = build_sources(config.data)
    system = build_system(config, sources.info)
    variables = evaluation_variables(state)
    names = sources.info.class_names
    target = np.asarray(config.data.target_of, np.int32)
    maps = np.stack([target[sources.train[k]["label"]] for k in range(len(sources.train))])
    pulled = pull(system, variables, maps)
    held_out = np.stack([sources.test[k]["label"] for k in range(len(sources.test))])
    predicted, folded = register(system, variables, held_out)
    (own,) = variables.values()
    rest = np.broadcast_to(np.argmax(own["params"]["labels"], -1), held_out.shape)
    lines = [x for x in read_metrics(workdir / "metrics.jsonl") if x["split"] == "train"]
    return Anatomy(
        classes=names[1:],
        pairs=tuple(_pairs(x, len(names)) for x in (maps, pulled)),
        held_out=tuple(_cases(x, held_out, len(names)) for x in (rest, predicted)),
        folding=max(lines[-1]["folding"], folded),
        last=lines[-1],
        seconds=training_seconds(workdir),
        pictures={
            name: np.asarray(Image.open(workdir / "atlas" / f"{name}.png"))
            for name in ("atlas", "modes")
        },
    )


def pull(system: Paddit, variables: PlayerVariables, maps: np.ndarray) -> np.ndarray:
    """Label maps of the training subjects in the template, by their mean velocities."""
    (own,) = variables.values()
    xi = jnp.mean(own["chains"]["draws"], (1, 2))

    @jax.jit
    def one(label, xi):
        u = system.flow.displacement(xi[None], own["params"]["prior"])
        return resample_labels(label[None], identity_grid(label.shape) + u, order=1)[0]

    return np.stack([np.asarray(one(jnp.asarray(m), x)) for m, x in zip(maps, xi)])


def register(
    system: Paddit, variables: PlayerVariables, maps: np.ndarray
) -> tuple[np.ndarray, float]:
    """The atlas' labels moved to new subjects' maps, and per cent of folded voxels, the worst."""
    (own,) = variables.values()
    labels = jnp.argmax(own["params"]["labels"], -1)[None]

    @jax.jit
    def one(label):
        image = jax.nn.one_hot(label, system.classes)[None, ..., 1:]
        xi = system.register(variables, image)
        there, back = (
            f(xi, own["params"]["prior"]) for f in (system.flow.displacement, system.flow.inverse)
        )
        moved = resample_labels(labels, identity_grid(label.shape) + back, order=1)[0]
        return moved, jnp.maximum(folding_percentage(there), folding_percentage(back))[0]

    found = [jax.device_get(one(jnp.asarray(m))) for m in maps]
    return np.stack([moved for moved, _ in found]), max(float(folded) for _, folded in found)


def _pairs(maps, classes):
    each = (mean_pairwise_dice((maps == k).astype(np.int32), 2) for k in range(1, classes))
    return np.array(list(each))


def _cases(predicted, maps, classes):
    scores = dice_per_class(jnp.asarray(predicted), jnp.asarray(maps), classes)
    return np.nanmean(np.asarray(scores)[:, 1:], 0)


def claims(made: Anatomy) -> tuple[Claim, ...]:
    """Registration to the template makes subjects alike, also new ones, and never folds."""
    found = []
    for name, (before, after) in (
        ("12 real brains, mean Dice of all pairs and tissues", made.pairs),
        ("4 held-out real brains, mean Dice of the template's labels", made.held_out),
    ):
        rise = float(after.mean() - before.mean())
        found.append(
            Claim(
                f"{name}: {before.mean():.3f} before registration, {after.mean():.3f} after",
                "rise >= 0.1",
                rise,
                None,
                rise >= 0.1,
            )
        )
    folding = Claim(
        "real brains: folded voxels in per cent, posterior samples and held-out maps",
        "0",
        made.folding,
        None,
        made.folding == 0,
    )
    return (*found, folding)


def table(made: Anatomy) -> str:
    """Dice of every tissue."""
    lines = ["| tissue | pairs before | pairs after | held out before | held out after |"]
    lines += ["|---" * 5 + "|"]
    columns = (*made.pairs, *made.held_out)
    for k, name in enumerate(made.classes):
        cells = (f"{column[k]:.3f}" for column in columns)
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    last = made.last
    lines += [
        "",
        f"Sampler on the real brains: acceptance {last['acceptance']:.2f}, median error of H "
        f"{last['energy_error']:.2f}, worst split R-hat {last['rhat']:.2f}, least effective sample "
        f"size {last['ess']:.0f}; root mean square displacement {last['displacement']:.1f} voxels, "
        f"inverse error {last['inverse_error']:.3f} voxels.",
    ]
    return "\n".join(lines)
