"""Array and tree aliases shared by every layer (the array contract).

Images are channels last, ``[b, h, w, c]`` or ``[b, d, h, w, c]``; labels are integer class indices
``[b, h, w]`` or ``[b, d, h, w]``; fields (displacement, velocity) are ``[b, *space, n]`` in voxels
with components in array-axis order.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Key

Batch = Mapping[str, jax.Array]
"""Named arrays with a leading batch axis: ``image``, ``label``, ``index``, ``case``, ..."""

Params = Mapping[str, Any]
"""A tree of trained parameters."""

Variables = Mapping[str, Any]
"""Flax variable collections of one module: ``params`` and, say, ``batch_stats``."""

RngKey = Key[Array, ""]
"""One typed PRNG key (`jax.random.key`)."""

RngKeys = Key[Array, " b"]
"""One typed PRNG key a sample."""

Augment = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""``(keys [b], image [b, *s, c], label [b, *s]) -> (image, label)``: a random transform in jit."""


@runtime_checkable
class SubjectAugment(Protocol):
    """A random transform that depends on which training subjects a batch holds."""

    def for_subjects(self, case: jax.Array) -> Augment:
        """The transform for the subjects `case` ``[b]``, numbers in the training source."""
        ...


def augment_for(augment: "Augment | SubjectAugment", batch: Batch) -> Augment:
    """The transform of a batch, told its subjects where it asks for them."""
    return augment.for_subjects(batch["case"]) if isinstance(augment, SubjectAugment) else augment


Leaf = Any
"""A field of a pytree class. JAX rebuilds such classes with tracers, shapes and placeholders in
place of arrays, so their fields cannot be checked; docstrings give types and shapes."""
