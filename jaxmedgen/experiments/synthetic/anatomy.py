"""New anatomies from training label maps: what is rendered, before how it is rendered.

``none`` keeps the label maps; ``elastic`` and ``rot+elastic`` bend (and turn) them; ``pathology``
gives hearts the shape of a disease; the folder of a trained label model mixes subjects in its
latent space, and ``FOLDER:METHOD`` puts its synthetic hearts in (`label_models`).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from jaxtyping import Array, Int, Key

from jaxmedgen.augment.label_deformation import Elastic, Rotation
from jaxmedgen.data.image_slices import thick_axis
from jaxmedgen.data.stacks import label_shape
from jaxmedgen.experiments.runs import open_run
from jaxmedgen.experiments.synthetic.label_models import (
    ANATOMY,
    hearts_of,
    population_of,
    refuse_held_out,
)
from jaxmedgen.metrics.cardiac import check_heart_order
from jaxmedgen.systems.base import CanCodeLabels, PlayerVariables

Deformation = Callable[[int, Int[np.ndarray, " b *s"]], Int[np.ndarray, " b *s"]]
"""``(seed, label maps) -> label maps`` of the same shape and classes."""

Operator = Callable[[Key[Array, " b"], Int[Array, " b *s"]], Int[Array, " b *s"]]
"""A random change of label maps on the device (`augment.label_deformation`, `label_morphology`)."""

_SAFE = 0.95
"""Of the displacement that certainly folds nothing."""

_FITTING = (
    "train a model of such label maps, or put its hearts into these with FOLDER:between or another "
    "method, which keeps what surrounds them"
)
"""What to do where a model's label maps do not fit."""

_REACH = 1.6  # of the outer wall's radius: beyond it nothing moves


def keep(seed: int, label: Int[np.ndarray, " b *s"]) -> Int[np.ndarray, " b *s"]:
    """The label maps as they are."""
    return label


def changed_by(*operators: Operator) -> Deformation:
    """Random operators one after the other, compiled together."""

    @jax.jit
    def change(keys, label):
        for number, operator in enumerate(operators):
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            label = operator(own, label)
        return label

    def deform(seed: int, label: Int[np.ndarray, " b *s"]) -> Int[np.ndarray, " b *s"]:
        keys = jax.random.split(jax.random.key(seed), len(label))
        return np.asarray(change(keys, jnp.asarray(label, jnp.int32)))

    return deform


def elastic(spacing: Sequence[float | int], *, rotation: float | int = 0) -> Deformation:
    """Random B-spline deformations without folds, and rotations up to `rotation` degrees.

    Both within slices, of volumes those across the thickest axis. Control points move by 14 mm, or
    as far as images of this size allow without folds.

    Args:
        spacing: voxel size in mm.
        rotation: largest angle.
    """
    axis = thick_axis(tuple(spacing)) if len(spacing) == 3 else 0
    # The operators have the slices first.
    spacing = tuple(float(s) for s in (spacing[axis], *np.delete(spacing, axis)))

    @functools.cache
    def made(shape: tuple[int, ...]) -> Deformation:
        bend = Elastic(spacing)
        safe = min(bend.displacement[1], _SAFE * bend.limit(shape))
        bend = dataclasses.replace(bend, displacement=(safe, safe))
        turn = Rotation(spacing, rotation, probability=1.0)
        return changed_by(turn, bend) if rotation else changed_by(bend)

    def deform(seed: int, label: Int[np.ndarray, " b *s"]) -> Int[np.ndarray, " b *s"]:
        cut = np.moveaxis(label, axis + 1, 1)
        return np.ascontiguousarray(np.moveaxis(made(cut.shape[1:])(seed, cut), 1, axis + 1))

    return deform


def interpolated(
    system: CanCodeLabels,
    variables: PlayerVariables,
    shape: tuple[int, ...] = (),
    name: str = "the model",
) -> Deformation:
    """Label maps between those of two subjects, by a trained model of label maps.

    The latent vectors of each map and of another one of the call are mixed with a weight of
    U(0, 1), and decoded. The deformation raises a ValueError for label maps of another shape.

    Args:
        system: that codes label maps.
        variables: of its players.
        shape: of the label maps that it was trained on; () is not checked.
        name: of the model, for the message.
    """

    @jax.jit
    def mix(key, label):
        z, _ = system.encode_labels(variables, label)
        order, weight = jax.random.split(key)
        partner = (jnp.arange(len(z)) + jax.random.randint(order, (), 1, max(len(z), 2))) % len(z)
        t = jax.random.uniform(weight, (len(z), 1))
        return system.decode_labels(variables, (1 - t) * z + t * z[partner])

    def deform(seed: int, label: Int[np.ndarray, " b *s"]) -> Int[np.ndarray, " b *s"]:
        if shape and label.shape[1:] != shape:
            raise ValueError(
                f"{name} makes label maps of {shape} voxels, these subjects have "
                f"{label.shape[1:]}: {_FITTING}"
            )
        made = mix(jax.random.key(seed), jnp.asarray(label, jnp.int32))
        return np.asarray(made, np.int32)

    return deform


def deformation_of(
    name: str,
    spacing: Sequence[float | int],
    held_out: Sequence[str] = (),
    class_names: Sequence[str] = (),
) -> Deformation:
    """The deformation that a configuration names: see the error, and `anatomy`.

    Args:
        name: of the deformation.
        spacing: voxel size in mm.
        held_out: cases that a model of label maps must not have seen.
        class_names: of the label maps; those of hearts must be in their order.

    Raises:
        ValueError: unknown name, a model that has seen held-out subjects or other classes than
            `class_names`, or another order of the heart's classes.
    """
    if name == "none":
        return keep
    if name == "elastic":
        return elastic(spacing)
    if name == "rot+elastic":
        return elastic(spacing, rotation=20)
    if name == "pathology":
        check_heart_order(class_names)
        return pathology(tuple(DISEASE_FACTORS))
    folder, _, method = name.rpartition(":")
    if pathlib.Path(folder).is_dir() and folder:
        check_heart_order(class_names)
        population = population_of(pathlib.Path(folder))
        refuse_held_out((stack.name for stack in population.stacks), held_out, folder)
        return hearts_of(population, method, spacing)
    if pathlib.Path(name).is_dir():
        run = open_run(pathlib.Path(name))
        if not isinstance(run.system, CanCodeLabels):
            raise ValueError(f"{name} holds {run.config.system}, which is no model of label maps")
        refuse_held_out(run.patients, held_out, name)
        if class_names and run.info.num_classes != len(class_names):
            raise ValueError(
                f"{name} was trained on the classes {', '.join(run.info.class_names)}, these "
                f"subjects have {', '.join(class_names)}: {_FITTING}"
            )
        return interpolated(run.system, run.variables()[0], label_shape(run.config), name)
    raise ValueError(
        f"experiment.deformation='{name}': choose none, elastic, rot+elastic or pathology, or the "
        "folder of a trained model of label maps, alone or as FOLDER:pathology, FOLDER:targeted, "
        "FOLDER:equalised, FOLDER:between"
    )


DISEASE_FACTORS: Mapping[str, tuple[tuple[float, float], tuple[float, float], float]] = {
    "NOR": ((1.0, 1.0), (1.0, 1.0), 1.0),
    "DCM": ((1.2, 1.4), (0.75, 0.95), 1.0),
    "HCM": ((0.8, 0.95), (1.5, 1.9), 1.0),
    "RV": ((1.0, 1.0), (1.0, 1.0), 1.5),
}
"""Ranges of factors on the left cavity's radius and the wall's thickness; factor on the right one.

Dilated and hypertrophic cardiomyopathy and abnormal right ventricle as the ACDC challenge describes
them (O. Bernard et al., IEEE TMI 37, 2018), in round numbers.
"""


def pathology(diseases: Sequence[str], classes: tuple[int, int, int] = (1, 2, 3)) -> Deformation:
    """Gives hearts the shape of diseases, which take turns; 2D short-axis label maps.

    The left ventricle is stretched along its radii, piecewise linearly between centre, inner and
    outer wall and a little beyond; for ``RV`` the right ventricle is scaled about its own centre,
    behind the left one. Maps without a left ventricle stay.

    Args:
        diseases: names of `DISEASE_FACTORS`.
        classes: label values of left cavity, myocardium and right cavity.

    Raises:
        ValueError: an unknown disease.
    """
    unknown = [d for d in diseases if d not in DISEASE_FACTORS]
    if unknown or not diseases:
        raise ValueError(f"diseases {list(diseases)}: give some of {', '.join(DISEASE_FACTORS)}")

    def deform(seed: int, label: Int[np.ndarray, " b *s"]) -> Int[np.ndarray, " b *s"]:
        made = []
        for number, one in enumerate(label):
            rng = np.random.default_rng((seed, number, ANATOMY))
            cavity, wall, right = DISEASE_FACTORS[diseases[number % len(diseases)]]
            factors = (float(rng.uniform(*cavity)), float(rng.uniform(*wall)), right)
            made.append(_reshape(one, factors, classes))
        return np.stack(made)

    return deform


def _reshape(
    label: Int[np.ndarray, "h w"], factors: tuple[float, float, float], classes: tuple[int, ...]
) -> Int[np.ndarray, "h w"]:
    """A heart with a wider cavity, a thicker wall and a larger right ventricle."""
    blood, muscle, right = (label == c for c in classes)
    if not blood.any() or not muscle.any():
        return label
    inner = float(np.sqrt(blood.sum() / np.pi))
    outer = float(np.sqrt((blood | muscle).sum() / np.pi))
    new_inner = inner * factors[0]
    new_outer = new_inner + (outer - inner) * factors[1]
    reach = _REACH * max(outer, new_outer)
    result = label
    if factors[2] != 1 and right.any():
        larger = _radial(right.astype(np.int32), right, lambda r: r / factors[2])
        left = blood | muscle
        result = np.where((larger > 0) & ~left, classes[2], label)
    knots = ((0.0, new_inner, new_outer, reach), (0.0, inner, outer, reach))
    return _radial(
        result, blood | muscle, lambda r: np.interp(r, *knots) + np.maximum(r - reach, 0)
    )


def _radial(label, about, source_radius):
    """The map whose pixel at radius r about a mask's centre is taken from ``source_radius(r)``."""
    centre = np.array(scipy.ndimage.center_of_mass(about))
    offset = np.indices(label.shape) - centre[:, None, None]
    radius = np.hypot(*offset)
    factor = source_radius(radius) / np.maximum(radius, 1e-6)
    places = centre[:, None, None] + offset * factor
    return scipy.ndimage.map_coordinates(label, places, order=0, mode="nearest").astype(np.int32)
