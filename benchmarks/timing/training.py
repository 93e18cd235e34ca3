"""Training steps of the two sides of a comparison, and whether both compute the same.

The first side writes its weights and a number of them for the second, which must find the same
number before its steps are timed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def flat(tree: Mapping[str, Any], *names: str) -> dict[str, np.ndarray]:
    """The arrays of a nested tree by their path ``a/b/c``, below `names`."""
    found = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, *names, name)
        else:
            found["/".join((*names, name))] = np.asarray(value)
    return found


def system_step(
    system: Any, state: Any, batch: Any, *, metric: str = "loss", prepare: Any = None
) -> Callable[[], float]:
    """A step of one of our systems as `bin/train` compiles it on one device.

    Args:
        system: players and objectives.
        state: given away.
        batch: of arrays on the device.
        metric: that a step waits for.
        prepare: transform of the batch before the losses; None for none.
    """
    import jax

    from jaxmedgen.train.step import make_step

    step = make_step(system.objectives(), system.players(), prepare=prepare)
    compiled, states = jax.jit(step, donate_argnums=0), [state]

    def advance():
        states[0], metrics = compiled(states[0], batch)
        return metrics[metric].item()

    return advance


def torch_step(optimiser: Any, loss: Callable[[], Any]) -> Callable[[], float]:
    """A step in PyTorch: loss, gradients, update."""

    def advance():
        optimiser.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        optimiser.step()
        return value.item()

    return advance


def agreement(value: Any, expected: float, *, limit: float = 1e-4, what: str = "losses") -> float:
    """How far a number is from the other side's, as a share of that.

    Raises:
        SystemExit: by more than `limit`.
    """
    difference = abs(float(value) - expected) / abs(expected)
    if not difference <= limit:
        raise SystemExit(f"{what} of the same weights differ by {difference}: not the same model")
    return difference
