"""Parameters that a step has no gradient for stay as they are, momentum and decay included.

A loss that no sample of a batch takes part in has exactly zero gradient. Adam with an L2 term would
still move its parameters, and with a fresh second moment by a whole learning rate a step towards
zero: heads that are idle at first would fade. PyTorch leaves out what has no gradient; so does
this.
"""

import jax
import jax.numpy as jnp
import optax


def hold_idle(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner`, whose update is zero for every array whose gradient is zero throughout.

    Zero means that the sum of squares is, which in float32 takes magnitudes below 1e-22 for zero.

    The state of `inner` advances all the same.

    Args:
        inner: an optimiser.
    """

    def update(gradients, state, params=None):
        updates, state = inner.update(gradients, state, params)
        # The sum of squares is what the step logs of the gradient: it is computed once for both.
        held = jax.tree.map(
            lambda u, g: jnp.where(jnp.sum(jnp.square(g)) > 0, u, 0), updates, gradients
        )
        return held, state

    return optax.GradientTransformation(inner.init, update)
