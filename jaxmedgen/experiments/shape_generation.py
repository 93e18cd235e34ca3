"""What any model with latent levels can make: draws, paths between subjects, uncertainty.

Functions of a system that `CanGenerate`; all arrays leave as numpy. Variables are arguments of what
is compiled, so that models of one kind share a program of the compilation cache. Batches larger
than `CHUNK` are worked through in equal parts, so that each function compiles once.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.data.sources import Source
from jaxmedgen.nets.variational import sample_gaussian
from jaxmedgen.systems.base import CanCheckRecords, PlayerVariables
from jaxmedgen.systems.latent import CanFollowGeodesics, CanGenerate, CanReport
from jaxmedgen.types import Batch

CHUNK = 100


def batch_of(
    source: Source, indices: Sequence[int] | np.ndarray, system: CanGenerate | None = None
) -> Batch:
    """The records of some subjects, stacked; checked where a system `CanCheckRecords`."""
    records = [source[int(i)] for i in indices]
    for number, record in zip(indices, records):
        if isinstance(system, CanCheckRecords):
            try:
                system.check_record(record)
            except ValueError as error:
                raise ValueError(f"{source.info.case_names[int(number)]}: {error}") from None
    return {name: jnp.asarray(np.stack([r[name] for r in records])) for name in records[0]}


def in_chunks(
    function: Callable[..., Any], batch: Mapping[str, Array], *others: Array, chunk: int = CHUNK
) -> Any:
    """``function(batch, *others)`` of each part, results joined along the first axis.

    The last part is filled up with its own last sample, whose results are dropped: a mean over the
    joined results is over the subjects, not over parts of unequal size.

    Args:
        function: compiled by the caller; returns arrays with a leading batch axis.
        batch: arrays with a leading axis of the same length.
        others: arrays likewise, keys for example.
        chunk: samples a part.
    """
    count = len(next(iter(batch.values())))
    parts, size = [], min(chunk, count)
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        part = jax.tree.map(lambda x, rows=rows: x[rows], (dict(batch), *others))
        kept = min(size, count - start)
        parts.append(jax.tree.map(lambda x, kept=kept: np.asarray(x[:kept]), function(*part)))
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def level_noise(
    system: CanGenerate, keys: Array, level: str | None = None
) -> dict[str, Float[Array, " b _"]]:
    """Standard normal noise of each level, one key a sample.

    Args:
        system: gives the levels.
        keys: ``[b]``.
        level: the only one that is random; the others are 0, the means of their priors.

    Raises:
        ValueError: no such level.
    """
    sizes = system.levels
    if level is not None and level not in sizes:
        raise ValueError(f"no latent level '{level}': choose one of {', '.join(sizes)}")
    made = {}
    for number, (name, size) in enumerate(sizes.items()):
        drawn = jax.vmap(
            lambda k, n=number, d=size: jax.random.normal(jax.random.fold_in(k, n), (d,))
        )
        noise = drawn(keys)
        made[name] = noise if level in (None, name) else jnp.zeros_like(noise)
    return made


def draw(
    system: CanGenerate,
    variables: PlayerVariables,
    batch: Batch,
    seed: int,
    level: str | None = None,
) -> Float[np.ndarray, " b *s c"]:
    """Draws of the prior, one a sample of the batch, under its conditions; see `draw_reported`."""
    return draw_reported(system, variables, batch, seed, level)[0]


def draw_reported(
    system: CanGenerate,
    variables: PlayerVariables,
    batch: Batch,
    seed: int,
    level: str | None = None,
) -> tuple[Float[np.ndarray, " b *s c"], dict[str, Float[np.ndarray, " b"]]]:
    """Draws of the prior, one a sample of the batch, under its conditions, and what they tell.

    Args:
        system: the model.
        variables: by player.
        batch: conditions; of an unconditional model its length alone matters.
        seed: of the draws.
        level: the only random level, see `level_noise`.

    Returns:
        Images, and what a system that `CanReport` says of each.
    """

    @jax.jit
    def make(variables, batch, keys):
        noise, report = level_noise(system, keys, level), {}
        if isinstance(system, CanReport):
            latents, report = system.reported_levels(variables, noise, batch)
        else:
            latents = system.prior_levels(variables, noise, batch)
        return system.decode_levels(variables, latents, batch), report

    count = len(next(iter(batch.values())))
    keys = jax.random.split(jax.random.key(seed), count)
    return in_chunks(functools.partial(make, variables), batch, keys)


def reconstruct(
    system: CanGenerate, variables: PlayerVariables, batch: Batch
) -> Float[np.ndarray, " b *s c"]:
    """Images of the posterior means."""

    @jax.jit
    def make(variables, batch):
        means = {k: mean for k, (mean, _) in system.encode_levels(variables, batch).items()}
        return system.decode_levels(variables, means, batch)

    return in_chunks(functools.partial(make, variables), batch)


def interpolate(
    system: CanGenerate, variables: PlayerVariables, pair: Batch, count: int
) -> Float[np.ndarray, " n *s c"]:
    """Images on the way between the posterior means of two subjects, ends included.

    The way is the straight line, or the geodesic of a system that `CanFollowGeodesics`. Conditions
    that are numbers move with it; classes change in the middle.

    Args:
        system: the model.
        variables: by player.
        pair: two subjects.
        count: points, at least 2.

    Raises:
        ValueError: fewer points, not two subjects, or two without a way between them.
    """
    if count < 2 or len(next(iter(pair.values()))) != 2:
        raise ValueError(f"count={count} points between 2 subjects: give at least 2 of both")
    curved = isinstance(system, CanFollowGeodesics)
    if curved:
        system.check_pair(pair)
    t = jnp.linspace(0.0, 1.0, count)

    def between(x):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.where((t < 0.5).reshape(-1, *(1,) * (x.ndim - 1)), x[:1], x[1:])
        share = t.reshape(-1, *(1,) * (x.ndim - 1))
        return (1 - share) * x[:1] + share * x[1:]

    @jax.jit
    def make(variables, pair):
        means = {k: mean for k, (mean, _) in system.encode_levels(variables, pair).items()}
        latents, given = jax.tree.map(between, (means, dict(pair)))
        if curved:
            latents = system.between_levels(variables, means, pair, count)
        return system.decode_levels(variables, latents, given)

    return np.asarray(make(variables, dict(pair)))


def traverse(
    system: CanGenerate,
    variables: PlayerVariables,
    subject: Batch,
    level: str,
    dimension: int,
    values: Sequence[float],
) -> Float[np.ndarray, " n *s c"]:
    """Images of one subject with one latent dimension set to each of some values."""
    count, moved = len(values), jnp.asarray(values, jnp.float32)

    @jax.jit
    def make(variables, subject):
        means = {k: mean for k, (mean, _) in system.encode_levels(variables, subject).items()}
        means, given = jax.tree.map(lambda x: jnp.repeat(x, count, 0), (means, dict(subject)))
        means = {**means, level: means[level].at[:, dimension].set(moved)}
        return system.decode_levels(variables, means, given)

    return np.asarray(make(variables, dict(subject)))


def uncertainty(
    system: CanGenerate,
    variables: PlayerVariables,
    batch: Batch,
    seed: int,
    samples: int = 20,
    source: str = "posterior",
) -> tuple[Float[np.ndarray, " b *s c"], Float[np.ndarray, " b *s c"]]:
    """Voxelwise mean and standard deviation over draws.

    Args:
        system: the model.
        variables: by player.
        batch: subjects, or conditions alone for ``prior``.
        seed: of the draws.
        samples: draws a subject.
        source: ``posterior`` or ``prior``.

    Raises:
        ValueError: an unknown source.
    """
    if source not in ("posterior", "prior"):
        raise ValueError(f"source '{source}': choose posterior or prior")

    @jax.jit
    def make(variables, batch, keys):
        posterior = system.encode_levels(variables, batch) if source == "posterior" else None

        def one(number):
            noise = level_noise(system, jax.vmap(lambda k: jax.random.fold_in(k, number))(keys))
            if posterior is None:
                latents = system.prior_levels(variables, noise, batch)
            else:
                latents = {k: sample_gaussian(noise[k], *q) for k, q in posterior.items()}
            return system.decode_levels(variables, latents, batch)

        made = jax.lax.map(one, jnp.arange(samples))
        return made.mean(0), made.std(0)

    count = len(next(iter(batch.values())))
    keys = jax.random.split(jax.random.key(seed), count)
    return in_chunks(functools.partial(make, variables), batch, keys)
