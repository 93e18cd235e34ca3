"""Parameters that a step has no gradient for stay as they are, and so does their optimiser's state.

A loss that no sample of a batch takes part in has exactly zero gradient. Adam with an L2 term would
still move its parameters, and with a fresh second moment by a whole learning rate a step towards
zero: heads that are idle at first would fade. A count of steps that goes on without them would harm
as much: moments that start late are too small for it, and their first steps too long (AMSGrad's by
fifteen times). PyTorch leaves out what has no gradient, state included; so does this.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Shaped


def hold_idle(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner`, for which a step does not exist for an array whose gradient is zero throughout.

    Neither the array nor its part of the state changes: moments stay, and numbers of the state
    (counts of steps) are kept one an array. What is to count all steps, a learning-rate schedule,
    comes after it: ``optax.chain(hold_idle(optimizer("adam", 1.0)), scale_by_schedule(...))``.

    All arrays are joined into one long vector: a program of a hundred small updates takes long to
    compile. Zero means that the sum of squares is, which in float32 takes magnitudes below 1e-22
    for zero. Where a gradient is not finite nothing is promised: the step's guard drops it.

    Args:
        inner: an optimiser that treats each element alone (no clipping by a global norm). Its
            state may hold arrays like the parameters and numbers that are combined with them
            element by element: all of `train.optim.optimizer`.
    """

    def init(params):
        one = inner.init(_joined(params))
        count = len(jax.tree.leaves(params))
        return jax.tree.map(lambda x: x if jnp.ndim(x) else jnp.full((count,), x), one)

    def update(gradients, state, params=None):
        leaves, tree = jax.tree.flatten(gradients)
        sizes = [leaf.size for leaf in leaves]
        starts = np.cumsum([0, *sizes[:-1]])
        joined = _joined(gradients)
        numbers = jax.tree.map(lambda x: x.ndim == 0, jax.eval_shape(inner.init, joined))
        # The sum of squares is what the step logs of the gradient: it is computed once for both.
        busy = jnp.stack([jnp.sum(jnp.square(leaf)) > 0 for leaf in leaves])
        moving = _spread(busy, sizes)
        spread = jax.tree.map(lambda x, number: _spread(x, sizes) if number else x, state, numbers)
        joined, new = inner.update(joined, spread, None if params is None else _joined(params))

        def kept(new, old, number):
            if not number:
                return jnp.where(moving, new, old)
            return jnp.where(busy, jnp.broadcast_to(new, moving.shape)[starts], old)

        parts = jnp.split(jnp.where(moving, joined, 0), starts[1:])
        updates = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves)]
        return jax.tree.unflatten(tree, updates), jax.tree.map(kept, new, state, numbers)

    return optax.GradientTransformation(init, update)


def _joined(tree: optax.Params) -> Shaped[Array, " n"]:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _spread(values: Shaped[Array, " k"], sizes: Sequence[int]) -> Shaped[Array, " n"]:
    """One value an array -> one an element of the joined arrays."""
    return jnp.concatenate([jnp.broadcast_to(v, (n,)) for v, n in zip(values, sizes)])
