"""Claim (ii): elastic deformation against the VAE, both moving contours equally far."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import ndimage
from scipy.spatial.distance import cdist

from jaxmedgen.augment.label_deformation import Elastic
from jaxmedgen.data.stacks import Stack
from jaxmedgen.experiments.label_files import stack_row
from jaxmedgen.experiments.reproductions.hearts.models import Model
from jaxmedgen.metrics.cardiac import clinical_indices, wall_thickness
from jaxmedgen.metrics.kernel_distance import mmd
from jaxmedgen.metrics.plausibility import IndexRange, clean_label, slice_flags
from jaxmedgen.ops.field_measures import folding_count
from jaxmedgen.ops.latent_paths import interpolate_latents, latents_between
from jaxmedgen.report.pictures import montage

SUBJECTS = 24
DISPLACEMENT = 20.0
CLASSES = (1, 2, 3)
_LONGEST = 14


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a way of deforming gives.

    Attributes:
        distance: mean distance in mm between old and new contours.
        topology: share of slices with a heart's topology, in per cent.
        plausible: share of slices that have it and areas and thickness of training slices, too.
        topology_raw: the first without cleaning.
        in_range: share of stacks whose clinical indices are those of training subjects.
        folded: share of fields that fold, in per cent; NaN where there is none.
        discrepancy: MMD of clinical indices to those of held-out subjects.
        to_train: mean distance of clinical indices to the nearest training subject's, in
            deviations of the held-out subjects.
        to_held_out: the same to the nearest held-out subject's.
    """

    distance: float
    topology: float
    plausible: float
    topology_raw: float
    in_range: float
    folded: float
    discrepancy: float
    to_train: float
    to_held_out: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Both ways of deforming.

    Attributes:
        elastic: outcome of elastic deformation.
        latent: of the VAE.
        t: how far subjects were moved towards others in the latent space.
        held_out_to_train: `Outcome.to_train` of the held-out subjects themselves.
    """

    elastic: Outcome
    latent: Outcome
    t: float
    held_out_to_train: float


def compare(
    model: Model, seed: int, count: int = SUBJECTS, displacement: float | int = DISPLACEMENT
) -> tuple[Comparison, dict[str, np.ndarray]]:
    """Deforms the first training subjects in both ways, contours moved equally far.

    Args:
        model: the VAE and its subjects.
        seed: of fields and of the subjects that others are moved towards.
        count: of subjects.
        displacement: largest one of the control points, in mm.

    Returns:
        Outcomes, and a picture of three subjects: as they are, elastic, VAE.
    """
    bent, folded = elastic(model, seed, count, displacement)
    outcome = judge(model, bent, folded)
    made, t = matched(model, seed, count, outcome.distance)
    rows = [stack.label for stack in model.train[:3]], bent[:3], made[:3]
    picture = montage([stack_row(row[k], 6) for k in range(3) for row in rows], columns=1)
    train, test = (index_vectors(stacks) for stacks in (model.train, model.test))
    floor = nearest_distance(test, train, test.std(0))
    return Comparison(outcome, judge(model, made), t, floor), {"elastic_and_latent": picture}


def contour_distance(one: np.ndarray, other: np.ndarray, pixel: float) -> float:
    """Symmetric mean distance in mm between the contours of the classes that both slices show."""
    found = []
    for value in CLASSES:
        masks = [label == value for label in (one, other)]
        if not all(mask.any() for mask in masks):
            continue
        edges = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
        fields = [ndimage.distance_transform_edt(~edge) for edge in edges]
        both = np.concatenate([fields[1][edges[0]], fields[0][edges[1]]])
        found.append(both.mean() * pixel)
    return float(np.mean(found)) if found else float("nan")


def elastic(
    model: Model, seed: int, count: int, displacement: float | int
) -> tuple[list[np.ndarray], float]:
    """The first training stacks, one field for all slices, and the share of folding fields."""
    pixel = model.train[0].spacing[1:]
    deform = Elastic(spacing=pixel, displacement=(displacement, displacement))
    keys = jax.random.split(jax.random.key(seed), count)
    shape = model.space.shape[-2:]
    folds = jax.jit(lambda keys: folding_count(deform.fields(keys, shape)))(keys)
    apply = jax.jit(lambda key, label: deform(jnp.broadcast_to(key, (_LONGEST,)), label))
    made = []
    for key, stack in zip(keys, model.train):
        label = stack.label
        padded = np.pad(label, [(0, _LONGEST - len(label)), (0, 0), (0, 0)])
        made.append(np.asarray(apply(key, jnp.asarray(padded)))[: len(label)])
    return made, 100 * float((np.asarray(folds) > 0).mean())


def latent(model: Model, seed: int, count: int, t: float) -> list[np.ndarray]:
    """The same stacks moved a way t towards another subject each, as many slices as before."""
    rng = np.random.default_rng(seed)
    latents, made = model.population.latents, []
    for number, stack in enumerate(model.train[:count]):
        other = int(rng.choice(np.delete(np.arange(len(latents)), number)))
        z = interpolate_latents(latents[number], latents[other], t)
        places = np.linspace(0, len(z) - 1, len(stack.label))
        made.append(model.space.decode(latents_between(z, places), clean=False))
    return made


def matched(model: Model, seed: int, count: int, distance: float) -> tuple[list[np.ndarray], float]:
    """`latent` at the t whose contours move by `distance`, at most 1.5, and t."""
    low, high = 0.0, 1.5
    for _ in range(6):
        middle = 0.5 * (low + high)
        moved = mean_distance(model, latent(model, seed, count, middle))
        low, high = (middle, high) if moved < distance else (low, middle)
    t = 0.5 * (low + high)
    return latent(model, seed, count, t), t


def mean_distance(model: Model, made: list[np.ndarray]) -> float:
    """Mean contour distance between the training stacks and what was made of them."""
    pixel = model.train[0].spacing[1]
    found = [
        contour_distance(a, b, pixel)
        for stack, label in zip(model.train, made)
        for a, b in zip(stack.label, label)
    ]
    return float(np.nanmean(found))


def judge(model: Model, made: list[np.ndarray], folded: float = float("nan")) -> Outcome:
    """Plausibility of deformed stacks; both ways are cleaned alike."""
    cleaned = [np.stack([clean_label(each) for each in label]) for label in made]
    limits = _slice_range(model.train)
    slices = [(each, stack) for label, stack in _pairs(model, cleaned) for each in label]
    topology = np.asarray([slice_flags(each).plausible for each, _ in slices])
    usual = np.asarray([_usual(each, stack, limits) for each, stack in slices])
    raw = [slice_flags(each).plausible for label in made for each in label]
    indices = [clinical_indices(label, stack.spacing) for label, stack in _pairs(model, cleaned)]
    # What is judged has as many slices as the subjects had, other than the population's range.
    usual_hearts = IndexRange.of([clinical_indices(s.label, s.spacing) for s in model.train])
    within = [usual_hearts.contains(found) for found in indices]
    vectors = np.nan_to_num([i.vector() for i in indices])
    train, test = (index_vectors(stacks) for stacks in (model.train, model.test))
    spread = test.std(0)
    return Outcome(
        distance=mean_distance(model, cleaned),
        topology=100 * float(topology.mean()),
        plausible=100 * float((topology & usual).mean()),
        topology_raw=100 * float(np.mean(raw)),
        in_range=100 * float(np.mean(within)),
        folded=folded,
        discrepancy=float(mmd(test / spread, vectors / spread)),
        to_train=nearest_distance(vectors, train, spread),
        to_held_out=nearest_distance(vectors, test, spread),
    )


def index_vectors(stacks: Sequence[Stack]) -> Float[np.ndarray, "n 4"]:
    """Clinical indices of stacks, in the order of `metrics.cardiac.INDICES`."""
    return np.nan_to_num([clinical_indices(s.label, s.spacing).vector() for s in stacks])


def nearest_distance(
    indices: Float[np.ndarray, "n d"],
    reference: Float[np.ndarray, "m d"],
    spread: Float[np.ndarray, " d"],
) -> float:
    """Mean distance of subjects to their nearest one of others, each index in its deviation.

    Beside MMD: near 0 to training subjects are copies of their shapes, and far from held-out ones
    are shapes that no subject has.

    Args:
        indices: of some subjects.
        reference: of the others.
        spread: deviation of each index.
    """
    distances = cdist(np.asarray(indices) / spread, np.asarray(reference) / spread)
    return float(distances.min(1).mean())


def _pairs(model, made):
    return list(zip(made, model.train))


def _measures(label: np.ndarray, stack: Stack) -> np.ndarray:
    pixel = stack.spacing[1] * stack.spacing[2]
    areas = [(label == value).sum() * pixel for value in CLASSES]
    return np.asarray([*areas, np.nan_to_num(wall_thickness(label, stack.spacing[1:]))])


def _slice_range(stacks) -> tuple[np.ndarray, np.ndarray]:
    """1st and 99th percentile of areas and wall thickness over the training slices."""
    found = [_measures(each, stack) for stack in stacks for each in stack.label]
    return tuple(np.percentile(found, (1, 99), axis=0))


def _usual(label: np.ndarray, stack: Stack, limits) -> bool:
    found = _measures(label, stack)
    return bool(((found >= limits[0]) & (found <= limits[1])).all())
