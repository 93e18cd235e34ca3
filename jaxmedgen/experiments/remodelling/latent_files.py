"""What a trained classifier of shapes shows of its latent space: ``bin/sample`` of such a run.

Draws of a class and its mean shape, the walk to the disease, walls of both in mm and by AHA
segment, a picture of the subjects. What it is made of are the latent means of the training
subjects.
"""

import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.data.atomic import write_table
from jaxmedgen.data.build import Sources
from jaxmedgen.data.shape_folder import TABLE
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.experiments.remodelling import pictures
from jaxmedgen.experiments.remodelling.navigation import walk
from jaxmedgen.experiments.remodelling.placed_subjects import (
    CHUNK,
    Subjects,
    class_number,
    place_subjects,
)
from jaxmedgen.experiments.remodelling.population import class_shapes, draw_class
from jaxmedgen.experiments.remodelling.wall_files import write_shape, write_walls
from jaxmedgen.experiments.shape_generation import in_chunks, level_noise
from jaxmedgen.metrics.laplacian_eigenmaps import laplacian_eigenmap
from jaxmedgen.report.pictures import montage, save_png
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.latent import CanNavigate
from jaxmedgen.train.environment import write_json

METHODS = ("navigate", "space", "kde")
"""Beside a class as ``--condition`` with any of the methods that draw."""


def write_latents(
    sources: Sources,
    system: CanNavigate,
    variables: PlayerVariables,
    names: Sequence[str],
    output: pathlib.Path,
    count: int,
    seed: int,
    method: str = "",
    condition: str = "",
) -> dict[str, object]:
    """One of `METHODS`, or draws of a class.

    Args:
        sources: subjects with a ``target``.
        system: the model.
        variables: of its trained state.
        names: of the classes.
        output: folder.
        count: draws of a class.
        seed: of the draws.
        method: one of `METHODS`, ``prior``, or the topmost level.
        condition: the class, by name or number.

    Returns:
        What ``samples.json`` holds.

    Raises:
        ValueError: a method that goes with no class or needs one; a model without a trained
            decoder or classifier.
    """
    method, info = method or "prior", sources.info
    criterion = getattr(system, "criterion", None)
    classifies = bool(getattr(criterion, "classification", True))
    if not getattr(criterion, "reconstruction", True):
        raise ValueError(f"--method {method}: this arm has no trained decoder (arm=cnn)")
    if method == "navigate" and not classifies:
        raise ValueError("--method navigate follows a classifier, this arm has none (beta0, free)")
    if condition and method in ("navigate", "space"):
        raise ValueError(
            f"--condition {condition}: --method {method} shows all classes; one goes with --method "
            f"prior, kde or {system.top}"
        )
    seen = place_subjects(system, variables, sources.train)
    if method == "navigate":
        return write_walk(info, system, variables, seen, names, output, seed)
    if method == "space":
        held = place_subjects(system, variables, sources.test)
        return write_space(info, system, variables, seen, held, names, output, classifies)
    if not condition or method not in ("prior", "kde", system.top):
        raise ValueError(
            f"--method {method}, --condition '{condition}': a class ({', '.join(names)}) goes with "
            f"--method prior, kde or {system.top}"
        )
    return write_class(info, system, variables, seen, names, output, count, seed, method, condition)


def write_class(
    info: DatasetInfo,
    system: CanNavigate,
    variables: PlayerVariables,
    seen: Subjects,
    names: Sequence[str],
    output: pathlib.Path,
    count: int,
    seed: int,
    method: str,
    condition: str,
) -> dict[str, object]:
    """Draws of a class, its mean shape and that one's wall.

    ``images/CASE_PHASE.nii.gz`` are probabilities, ``labels/`` masks with the table of a folder
    that `bin/train` takes, ``mean/`` the mean of 1000 draws through prior means.

    Args:
        info: channels and spacing.
        system: the model.
        variables: of its trained state.
        seen: the training subjects.
        names: of the classes.
        output: folder.
        count: draws.
        seed: of the draws.
        method: ``prior``: a Gaussian of the class's latent means; ``kde``: a kernel density; the
            lower levels are drawn from their priors. The topmost level's name: a Gaussian, the
            lower levels at their prior means.
        condition: the class, by name or number.

    Raises:
        ValueError: an unknown class, or one with too few subjects for the density.
    """
    kind, top = class_number(condition, names), system.top
    own, density = seen.latents[seen.target == kind], "kde" if method == "kde" else "gaussian"
    rng = np.random.default_rng(seed)
    try:
        z = draw_class(rng, own, count, density)
    except (ValueError, np.linalg.LinAlgError):
        raise ValueError(
            f"{len(own)} training subjects of class {names[kind]} in {own.shape[1]} dimensions are "
            f"too few for --method {method}: take --method prior, or a model of fewer dimensions"
        ) from None

    @jax.jit
    def make(variables, z, keys):
        noise = None if method == top else level_noise(system, keys)
        return system.decode_below(variables, {top: z}, noise)

    keys = jax.random.split(jax.random.key(seed), count)
    shapes = in_chunks(
        lambda part, keys: make(variables, part["z"], keys),
        {"z": jnp.asarray(z, jnp.float32)},
        keys,
        chunk=CHUNK,
    )
    table = []
    for number, shape in enumerate(shapes):
        name = f"sample_{number:05d}"
        write_shape(output / "images", name, shape, info)
        write_shape(output / "labels", name, (shape > 0.5).astype(np.uint8), info)
        table.append({"case": name, "class": names[kind]})
    write_table(output / "labels" / TABLE, table)
    target = seen.target[seen.target == kind]
    mean = class_shapes(system, variables, own, target, seed=seed, density=density)[kind]
    write_shape(output / "mean", names[kind], mean, info)
    save_png(output / "samples.png", pictures.shape_rows(list(shapes[:8])))
    told = {"class": names[kind], "subjects": len(own), "density": density}
    return _told(output, told | write_walls(output, {names[kind]: mean}, info))


def write_walk(
    info: DatasetInfo,
    system: CanNavigate,
    variables: PlayerVariables,
    seen: Subjects,
    names: Sequence[str],
    output: pathlib.Path,
    seed: int,
) -> dict[str, object]:
    """The walk from the mean subject of class 0 along the gradient of class 1.

    ``images/walk_K_PHASE.nii.gz`` at probabilities of about 0, 0.25, 0.5, 0.75, 1; ``walk.csv``
    (every step), ``walk.png``, walls of the five shapes and what the last has gained on the first.
    """
    radius = float(np.linalg.norm(seen.latents, axis=1).max())
    start = seen.latents[seen.target == 0].mean(0)
    found = walk(system, variables, start, radius, seed, draws=1)
    shown = [found.probability[place] for place in found.places]
    for number, shape in enumerate(found.shapes):
        write_shape(output / "images", f"walk_{number}", shape, info)
    rows = [
        {"step": step, "probability": float(p)}
        | {f"{system.top}[{k}]": float(v) for k, v in enumerate(z)}
        for step, (p, z) in enumerate(zip(found.probability, found.latents))
        # Once at its end, or at the radius, a walk rests up to rounding.
        if step == 0 or np.abs(z - found.latents[step - 1]).max() > 1e-5
    ]
    write_table(output / "walk.csv", rows)
    save_png(output / "walk.png", pictures.shape_rows(list(found.shapes)))
    shapes = {f"{k}, p={p:.2f}": x for k, (p, x) in enumerate(zip(shown, found.shapes))}
    told = {
        "walk": f"{names[0]} to {names[1]}",
        "steps": len(rows) - 1,
        "probabilities": [round(float(p), 4) for p in shown],
        "longest training subject": round(radius, 4),
    }
    return _told(output, told | write_walls(output, shapes, info))


def write_space(
    info: DatasetInfo,
    system: CanNavigate,
    variables: PlayerVariables,
    seen: Subjects,
    held: Subjects,
    names: Sequence[str],
    output: pathlib.Path,
    classifies: bool = True,
) -> dict[str, object]:
    """The subjects in the plane and the shapes at the means of the classes.

    A level of two dimensions is shown as it is, over the probability of class 1; a longer one by a
    Laplacian eigenmap of the training subjects with held-out ones placed by its extension.
    ``latents.csv`` has every subject, ``images/mean_CLASS_PHASE.nii.gz`` the shapes.
    """
    top = system.top
    centres = np.stack([seen.latents[seen.target == kind].mean(0) for kind in range(len(names))])
    flat = centres.shape[1] == 2 and classifies
    grid = pictures.field_grid(seen.latents) if flat else centres

    @jax.jit
    def look(variables, centres, grid):
        field = jax.nn.softmax(system.scores(variables, grid))[:, 1]
        return system.decode_below(variables, {top: centres}), field

    shapes, field = map(
        np.asarray,
        look(variables, jnp.asarray(centres, jnp.float32), jnp.asarray(grid, jnp.float32)),
    )
    if flat:
        places = seen.latents, held.latents
        drawn = pictures.decision_field(
            places[0], seen.target, names, grid, field, held=(places[1], held.target)
        )
    else:
        places, labels = (seen.latents, held.latents), ("z, first dimension", "second")
        if centres.shape[1] != 2:
            embedded = laplacian_eigenmap(seen.latents)
            places = embedded.coordinates, embedded.transform(held.latents)
            labels = ("Laplacian eigenmap 1", "2")
        drawn = pictures.scatter(places[0], seen.target, names, labels=labels)
    rows = [
        {"case": case, "part": part, "class": names[int(k)], "probability": float(p),
         "x": float(x[0]), "y": float(x[1])}
        for part, subjects, where in zip(("train", "test"), (seen, held), places)
        for case, k, p, x in zip(subjects.names, subjects.target, subjects.probability, where)
    ]  # fmt: skip
    write_table(output / "latents.csv", rows)
    for name, shape in zip(names, shapes):
        write_shape(output / "images", f"mean_{name}", shape, info)
    save_png(output / "space.png", montage([drawn, pictures.shape_rows(list(shapes))], columns=2))
    size = len(centres[0])
    told = {"picture": "latents" if size == 2 else "Laplacian eigenmap", "dimensions": size}
    return _told(output, told | write_walls(output, dict(zip(names, shapes)), info))


def _told(output: pathlib.Path, told: dict[str, object]) -> dict[str, object]:
    write_json(output / "samples.json", told)
    return told
