"""Objectives: which player is updated, by which loss, how often.

A system describes its training as a tuple of objectives; `step.py` turns them into one compiled
step. A segmenter has one objective; a GAN has two; StyleGAN2's lazy R1 penalty is a third with
``every=16``; a mean teacher reads the averaged weights from the loss' inputs. What changes a player
by other means than a gradient (an iteration of expectation-maximisation, say) is an `Update`.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import optax
from flax import struct

from jaxmedgen.types import Leaf


@dataclasses.dataclass(frozen=True)
class PlayerSettings:
    """How one player is optimised.

    Attributes:
        optimizer: an optax transformation; clipping and schedules are part of it (`optim.py`).
        ema_decay: decay of the parameters' exponential moving average, or None for no average.
    """

    optimizer: optax.GradientTransformation
    ema_decay: float | None = None


@struct.dataclass
class LossInputs:
    """What a loss may look at.

    Attributes:
        variables: flax `Variables` of every player; the loss is differentiated with respect to the
            ``params`` of the players that the objective updates, the rest is constant.
        ema: averaged parameters of the players that have them.
        batch: the prepared (augmented) batch.
        keys: one typed key a sample, ``[b]``; all noise of a sample is drawn from its own.
        key: one typed key for the step, the same on every device.
        step: number of finished steps, int32 scalar.
    """

    variables: dict[str, Leaf]
    ema: dict[str, Leaf]
    batch: dict[str, Leaf]
    keys: Leaf
    key: Leaf
    step: Leaf


@struct.dataclass
class LossOutputs:
    """What a loss returns besides its value.

    Attributes:
        metrics: scalars to log.
        variables: new non-trained flax collections by player (``{"segmenter": {"batch_stats":
            ...}}``).
    """

    metrics: dict[str, Leaf] = struct.field(default_factory=dict)
    variables: dict[str, Leaf] = struct.field(default_factory=dict)


LossFunction = Callable[[LossInputs], tuple[jax.Array, LossOutputs]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """One loss and the players it trains.

    Attributes:
        name: name in the logs.
        updates: the players whose parameters this loss updates.
        loss: ``inputs -> (scalar, LossOutputs)``. Its value must be the mean over the local batch
            or a function of sums over the global one (`ops.collectives`), see `step.py`.
        every: run on steps where ``step % every == 0``; in the others its metrics are NaN, which
            the log leaves out of its means.
        whole_batch: the loss is to see all samples of a step at once: it changes collections once a
            step (power iterations of spectral norms) or joins samples other than by a mean.
            Such a step takes no micro-batches.
    """

    name: str
    updates: tuple[str, ...]
    loss: LossFunction
    every: int = 1
    whole_batch: bool = False


@struct.dataclass
class UpdateOutputs:
    """What an update returns; players and collections that it leaves out stay as they are.

    Attributes:
        params: new parameters by player, whole trees.
        variables: new non-trained collections by player, as in `LossOutputs`.
        metrics: scalars to log, of the global batch.
    """

    params: dict[str, Leaf] = struct.field(default_factory=dict)
    variables: dict[str, Leaf] = struct.field(default_factory=dict)
    metrics: dict[str, Leaf] = struct.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Update:
    """A change of players that is no gradient step: a sampler's transitions, a closed form.

    It stands among a system's objectives and shares all that the step does for them but gradients:
    keys, devices, the non-finite guard, checkpoints. The players' optimisers are not used.

    Attributes:
        name: name in the logs.
        updates: the players that it changes.
        run: ``inputs -> UpdateOutputs``. Under `jax.pmap` it sees the local batch and must return
            the same on every device: reduce with `ops.collectives`.
        every: as in `Objective`.
    """

    name: str
    updates: tuple[str, ...]
    run: Callable[[LossInputs], UpdateOutputs]
    every: int = 1


def check_objectives(
    objectives: tuple[Objective | Update, ...], players: Mapping[str, PlayerSettings]
) -> None:
    """Checks that objectives and players fit.

    Raises:
        ValueError: no objective, a repeated name, an unknown player, or ``every < 1``.
    """
    if not objectives:
        raise ValueError("a system needs at least one objective")
    names = [o.name for o in objectives]
    if len(set(names)) != len(names):
        raise ValueError(f"objective names {names} repeat: give each its own")
    for objective in objectives:
        unknown = set(objective.updates) - set(players)
        if unknown or not objective.updates:
            raise ValueError(
                f"objective '{objective.name}' updates {objective.updates}; "
                f"the system's players are {tuple(players)}"
            )
        if objective.every < 1:
            raise ValueError(f"objective '{objective.name}': every={objective.every} must be >= 1")


def check_accumulation(objectives: tuple[Objective | Update, ...], accumulate: int) -> None:
    """Checks that a step may be made of micro-batches.

    Raises:
        ValueError: ``accumulate < 1``, or larger than 1 where the whole batch is needed.
    """
    if accumulate < 1:
        raise ValueError(f"accumulate={accumulate} must be >= 1")
    for objective in objectives if accumulate > 1 else ():
        if isinstance(objective, Update):
            why = "is no gradient step and sees the whole batch"
        elif objective.whole_batch:
            why = "sees the whole batch, whose samples its loss joins or whose networks it moves on"
        else:
            continue
        raise ValueError(f"accumulate={accumulate}: '{objective.name}' {why}; set accumulate=1")
