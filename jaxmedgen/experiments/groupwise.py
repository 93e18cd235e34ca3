"""Groupwise registration by a trained model: how well labels and images agree afterwards."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from rich.console import Console

from jaxmedgen.data.grid_affines import affine_of
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.sources import Source
from jaxmedgen.metrics.groupwise import mean_pairwise_dice, voxelwise_deviation
from jaxmedgen.ops.field_measures import folding_percentage
from jaxmedgen.ops.fields import compose, identity_grid, warp
from jaxmedgen.ops.resample import resample_labels
from jaxmedgen.systems.base import CanAlign, PlayerVariables
from jaxmedgen.train.environment import write_json


@dataclasses.dataclass(frozen=True)
class Agreement:
    """A group before and after registration.

    Attributes:
        dice_before: mean Dice of label maps over all pairs and foreground classes.
        dice_after: the same in the common frame.
        deviation_before: standard deviation over subjects, mean over voxels.
        deviation_after: the same in the common frame.
        folding: per cent of voxels where the maps fold.
        inverse_error: mean distance in voxels by which a map and its inverse miss the identity.
        displacement: mean length of the displacements in voxels.
    """

    dice_before: float
    dice_after: float
    deviation_before: float
    deviation_after: float
    folding: float
    inverse_error: float
    displacement: float


@dataclasses.dataclass(frozen=True, eq=False)
class Aligned:
    """Images and labels of a group in the common frame, with the displacements there and back."""

    image: Float[np.ndarray, " n *s c"]
    label: Int[np.ndarray, " n *s"]
    there: Float[np.ndarray, " n *s k"]
    back: Float[np.ndarray, " n *s k"]


def register_group(
    system: CanAlign,
    variables: PlayerVariables,
    image: Float[Array, " n *s c"],
    label: Int[Array, " n *s"],
    **frame: Any,
) -> Aligned:
    """Brings a group into the common frame.

    Args:
        system: a model with a transformer.
        variables: by player.
        image: the group.
        label: its label maps, moved alike.
        frame: what else the system needs to know of the common frame (`ItVae.align`).
    """

    @jax.jit
    def align(variables, image, label, frame):
        there, back = system.align(variables, image, **frame)
        grid = identity_grid(image.shape[1:-1])
        return warp(image, there), resample_labels(label, grid + there, order=1), there, back

    return Aligned(*map(np.asarray, align(variables, image, label, frame)))


def agreement(
    image: Float[Array, " n *s c"], label: Int[Array, " n *s"], aligned: Aligned, classes: int
) -> Agreement:
    """Numbers of a registered group.

    Args:
        image: before.
        label: before.
        aligned: after.
        classes: number of label values, background included.
    """

    @jax.jit
    def measure(there, back):
        missed = jnp.linalg.norm(compose(there, back), axis=-1)
        # Beyond the border both maps are extrapolated: what leaves the image is no error.
        inner = (slice(None), *(slice(4, -4) for _ in there.shape[1:-1]))
        return folding_percentage(there).mean(), missed[inner].mean()

    folding, missed = measure(jnp.asarray(aligned.there), jnp.asarray(aligned.back))
    return Agreement(
        dice_before=mean_pairwise_dice(np.asarray(label), classes),
        dice_after=mean_pairwise_dice(aligned.label, classes),
        deviation_before=voxelwise_deviation(np.asarray(image)),
        deviation_after=voxelwise_deviation(aligned.image),
        folding=float(folding),
        inverse_error=float(missed),
        displacement=float(np.linalg.norm(aligned.there, axis=-1).mean()),
    )


def evaluate_alignment(
    system: CanAlign,
    variables: PlayerVariables,
    source: Source,
    workdir: pathlib.Path,
    console: Console,
    *,
    step: int,
) -> Agreement:
    """Registers a labelled group and writes what came out.

    ``aligned/images``, ``aligned/labels``: the subjects in the common frame; ``aligned/fields``:
    displacements in voxels that bring them there, components last; ``alignment.json``: the numbers.
    Files have the affine of their subject's grid.

    Raises:
        ValueError: fewer than two subjects, or subjects without image or label.
    """
    names = source.info.case_names
    if len(source) < 2:
        raise ValueError(f"{len(source)} subject(s): a group has two or more")
    for i, name in enumerate(names):
        missing = [key for key in ("image", "label") if key not in source[i]]
        if missing:
            raise ValueError(f"subject {name} has no {' and no '.join(missing)} to evaluate")
    image, label = group(source)
    aligned = register_group(system, variables, image, label)
    found = agreement(image, label, aligned, source.info.num_classes)
    for i, name in enumerate(names):
        folder, file = workdir / "aligned", f"{name}.nii.gz"
        affine = affine_of(source, i)
        write_volume(folder / "images" / file, aligned.image[i, ..., 0], affine)
        write_volume(folder / "labels" / file, aligned.label[i].astype(np.uint8), affine)
        write_volume(folder / "fields" / file, aligned.there[i], affine)
    write_json(workdir / "alignment.json", {"step": step, **dataclasses.asdict(found)})
    console.print(
        f"mean pairwise Dice of {len(source)} subjects {found.dice_before:.3f} -> "
        f"{found.dice_after:.3f}, standard deviation {found.deviation_before:.3f} -> "
        f"{found.deviation_after:.3f}, folded voxels {found.folding:.2f} %"
    )
    return found


def group(source: Source) -> tuple[Float[Array, " n *s c"], Int[Array, " n *s"]]:
    """All images and label maps of a source."""
    records = [source[i] for i in range(len(source))]
    image, label = (np.stack([r[name] for r in records]) for name in ("image", "label"))
    return jnp.asarray(image), jnp.asarray(label, jnp.int32)
