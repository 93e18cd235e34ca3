"""What a trained ladder has made of its latent spaces and of hearts, in pictures."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.experiments.remodelling import pictures, population
from jaxmedgen.experiments.remodelling.navigation import walk
from jaxmedgen.experiments.remodelling.outcome import Outcome
from jaxmedgen.experiments.reproductions.remodelling.models import Model
from jaxmedgen.metrics.laplacian_eigenmaps import laplacian_eigenmap


def eigenmap(model: Model) -> np.ndarray:
    """What the 64-dimensional latent space needs to be seen: test subjects, embedded."""
    embedded = laplacian_eigenmap(model.test.latents[model.system.top])
    labels = ("Laplacian eigenmap 1", "2")
    names = ("healthy", "HCM")
    return pictures.scatter(embedded.coordinates, model.test.target, names, labels=labels)


def ladder_pictures(model: Model, seen: Outcome) -> dict[str, np.ndarray]:
    """The top latent space with the classifier's field, a traversal and a walk to the disease."""
    points = seen.latents[model.system.top]
    grid, steps = pictures.field_grid(points), pictures.quantile_grid(points)

    @jax.jit
    def look(variables, grid, steps):
        field = jax.nn.softmax(model.system.scores(variables, grid))[:, 1]
        return field, model.system.decode_below(variables, {model.system.top: steps})

    field, shapes = look(
        model.variables, jnp.asarray(grid, jnp.float32), jnp.asarray(steps, jnp.float32)
    )
    names = ("healthy", "HCM")
    found = walk(
        model.system,
        model.variables,
        points[seen.target == 0].mean(0),
        float(np.linalg.norm(points, axis=1).max()),
    )
    subjects = pictures.decision_field(
        points,
        seen.target,
        names,
        grid,
        np.asarray(field),
        held=(model.test.latents[model.system.top], model.test.target),
        path=found.latents,
    )
    return {
        "latent_space": subjects,
        "traversal": pictures.shape_rows(np.asarray(shapes)),
        "walk": pictures.shape_rows(found.shapes),
    }


def wall_pictures(
    model: Model, shapes, found: population.Thickening | None
) -> dict[str, np.ndarray]:
    """Walls of the mean shapes, healthy and diseased, ED, and how they differ."""
    if found is None:
        return {}
    ends = [shapes[kind][..., 0] for kind in (0, 1)]
    return {
        "thickening": pictures.thickening_views(found),
        "walls": pictures.thickness_views(ends, model.sources.info.spacing),
    }
