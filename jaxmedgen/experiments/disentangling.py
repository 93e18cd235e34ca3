"""How well a trained variational autoencoder explains images and tells their factors apart."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from rich.console import Console

from jaxmedgen.data import dsprites, mnist
from jaxmedgen.data.phantoms import glyphs
from jaxmedgen.data.sources import Source
from jaxmedgen.experiments.groupwise import evaluate_alignment
from jaxmedgen.metrics.disentanglement import (
    d_score,
    group_importances,
    importances,
    probe_accuracy,
)
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.deformation.it_vae import PLAYER, ItVae
from jaxmedgen.train.environment import write_json

_CHUNK = 250
_CHUNK_VOXELS = 2**21
"""Images and voxels a call, so that memory does not grow with their number."""
_PROBED = 2000
"""Training images that the vote of nearest neighbours looks at."""
_BOUNDED = 500
"""Test images whose bounds are averaged."""
_APPEARANCE = {
    "glyphs": glyphs.APPEARANCE,
    "mnist": mnist.APPEARANCE,
    "dsprites": dsprites.APPEARANCE,
}
"""So many of the first factors of a kind of data belong to the appearance."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """What is reported of one training.

    Attributes:
        elbo: evidence lower bound, nats an image, on test images.
        log_evidence: importance-weighted bound of ``log p(x)``, likewise.
        d_score: disentanglement over all factors.
        d_score_groups: over two, appearance and perspective (mean importance of their factors).
        probe_appearance: accuracy of a 5-nearest-neighbour vote on the class from z_A.
        probe_perspective: from z_P; NaN where there is none.
        probe_decoded: from the image decoded from z_A, before the map.
    """

    elbo: float
    log_evidence: float
    d_score: float
    d_score_groups: float
    probe_appearance: float
    probe_perspective: float
    probe_decoded: float


def score(
    system: ItVae,
    variables: PlayerVariables,
    train: Source,
    test: Source,
    *,
    appearance: int,
    samples: int = 100,
) -> Scores:
    """Bounds, D scores and probes of an autoencoder of images with known factors.

    Args:
        system: the autoencoder.
        variables: by player.
        train: training images with ``factors``, of which the first is a class; fits the probes.
        test: images that were not trained on.
        appearance: so many of the first factors belong to the appearance.
        samples: draws of the importance-weighted bound.
    """
    seen = codes(system, variables, train, min(len(train), _PROBED))
    new = codes(system, variables, test, len(test))
    importance = importances(
        np.concatenate([new[name] for name in ("perspective", "appearance") if name in new], 1),
        new["factors"],
        [True, *[False] * (new["factors"].shape[1] - 1)],
    )
    kinds = range(importance.shape[1])
    groups = [[k for k in kinds if k < appearance], [k for k in kinds if k >= appearance]]
    classes = [part["factors"][:, 0].astype(int) for part in (seen, new)]

    def probe(name: str) -> float:
        if name not in seen:
            return float("nan")
        return probe_accuracy(seen[name], classes[0], new[name], classes[1])

    elbo, weighted = _bounds(system, variables, test, samples)
    return Scores(
        elbo=elbo,
        log_evidence=weighted,
        d_score=d_score(importance),
        d_score_groups=d_score(group_importances(importance, groups)),
        probe_appearance=probe("appearance"),
        probe_perspective=probe("perspective"),
        probe_decoded=probe("decoded"),
    )


def evaluate_autoencoder(
    system: ItVae,
    variables: PlayerVariables,
    train: Source,
    test: Source,
    workdir: pathlib.Path,
    console: Console,
    *,
    kind: str = "",
    step: int,
    samples: int = 100,
) -> dict[str, float]:
    """What is known of a trained autoencoder, printed and in ``autoencoder.json``.

    ELBO and importance-weighted bound of test images; where the data have known factors also D
    scores and probes (`Scores`); where they have label maps and the model has a map, the subjects
    are registered (`experiments.groupwise`).

    Args:
        system: the autoencoder.
        variables: by player.
        train: its training images, for the probes.
        test: images that were not trained on.
        workdir: for the files.
        console: where to print.
        kind: of the data, which tells what its factors are.
        step: that the variables are from.
        samples: draws of the importance-weighted bound.

    Raises:
        ValueError: no test images, or a group of one.
    """
    if not len(test):
        raise ValueError("there are no test subjects: set config.data.test, or give --data")
    if "label" in test[0] and system.net.transformer is not None:
        evaluate_alignment(system, variables, test, workdir, console, step=step)
    if "factors" in test[0] and kind in _APPEARANCE:
        appearance = _APPEARANCE[kind]
        scores = score(system, variables, train, test, appearance=appearance, samples=samples)
        found = dataclasses.asdict(scores)
    else:
        found = dict(zip(("elbo", "log_evidence"), _bounds(system, variables, test, samples)))
    if not system.stochastic:  # nothing is drawn, so nothing is bounded
        del found["elbo"], found["log_evidence"]
    found = {name: value for name, value in found.items() if not math.isnan(value)}
    write_json(workdir / "autoencoder.json", {"step": step, "samples": samples, **found})
    if found:
        console.print(", ".join(f"{name} {value:.4g}" for name, value in found.items()))
    return found


def codes(
    system: ItVae, variables: PlayerVariables, source: Source, count: int
) -> dict[str, Float[np.ndarray, "n k"]]:
    """Posterior means of the first `count` images, their ``decoded`` appearance, and ``factors``.

    Keys ``perspective`` and ``appearance`` are there if the model has such latents.
    """

    @jax.jit
    def encode(variables, image):
        noise = jnp.zeros((image.shape[0], system.latents))
        found = system.net.apply(variables[PLAYER], image, noise)
        decode = functools.partial(system.net.apply, method="decode_appearance")
        shown, _ = decode(variables[PLAYER], found.z_appearance, image.shape[0])
        made = {"decoded": shown.reshape(image.shape[0], -1), "appearance": found.z_appearance}
        if found.z_perspective is not None:
            made["perspective"] = found.z_perspective
        return made

    parts: list[Mapping[str, Array]] = []
    chunk = _chunk(source)
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        parts.append(encode(variables, stack(source, range(start, stop))))
    joined = {name: np.concatenate([np.asarray(p[name]) for p in parts]) for name in parts[0]}
    return joined | {"factors": np.stack([source[i]["factors"] for i in range(count)])}


def stack(source: Source, numbers: Sequence[int], name: str = "image") -> Array:
    """One array of several records."""
    return jnp.asarray(np.stack([source[i][name] for i in numbers]))


def _chunk(source: Source) -> int:
    """Images a call."""
    return max(1, min(_CHUNK, _CHUNK_VOXELS // int(np.prod(source[0]["image"].shape))))


def _bounds(
    system: ItVae, variables: PlayerVariables, test: Source, samples: int
) -> tuple[float, float]:
    """Mean bounds over the first test images."""
    bound = jax.jit(lambda v, keys, image: system.bounds(v, keys, image, samples))
    found, chunk = [], _chunk(test)
    for start in range(0, min(len(test), _BOUNDED), chunk):
        numbers = range(start, min(start + chunk, len(test), _BOUNDED))
        keys = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(0), n))(jnp.asarray(numbers))
        found.append(bound(variables, keys, stack(test, numbers)))
    elbo, weighted = (np.concatenate([np.asarray(part[k]) for part in found]) for k in (0, 1))
    return float(elbo.mean()), float(weighted.mean())
