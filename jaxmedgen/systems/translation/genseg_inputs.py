"""Batches of GenSeg and its baselines: augmented pairs, and what is known of their masks."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxmedgen.types import Augment, Batch


def prepare_pairs(
    batch: Batch,
    keys: Key[Array, " b"],
    augmentation: Augment,
    *,
    clip: bool,
    prior: tuple[int, ...] | None = None,
) -> Batch:
    """A batch with both images augmented, each by its own draws.

    Args:
        batch: ``image`` and ``label`` of samples with a finding, ``absent`` images without, and
            where they are not all alike ``has_mask`` (default 1) and ``domain`` (default 0).
        keys: one a sample.
        augmentation: of image and label.
        clip: clips images to [-1, 1] afterwards.
        prior: shape of a sample's ``prior`` from N(0, I), which is added to the batch.

    Raises:
        ValueError: there is no ``absent``.
    """
    if "absent" not in batch:
        raise ValueError(
            "GenSeg needs images without a finding beside those with: data.kind must be "
            "cluttered_digits, hemispheres or findings"
        )
    split = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
    label = batch["label"]
    image, label = augmentation(split[:, 0], batch["image"], label)
    absent, _ = augmentation(split[:, 1], batch["absent"], jnp.zeros_like(batch["label"]))
    if clip:
        image, absent = jnp.clip(image, -1, 1), jnp.clip(absent, -1, 1)
    count = label.shape[0]
    found = {
        **batch,
        "image": image,
        "label": label,
        "absent": absent,
        "has_mask": batch.get("has_mask", jnp.ones(count, jnp.float32)),
        "domain": batch.get("domain", jnp.zeros(count, jnp.int32)),
    }
    if prior is not None:
        found["prior"] = jax.vmap(lambda key: jax.random.normal(key, prior))(split[:, 2])
    return found


def exchanges(batch: Batch, keys: Key[Array, " b"], domains: int, shape: tuple[int, ...]) -> Batch:
    """A batch with ``other``, a domain that is not the sample's, and ``exchange``, u for it.

    Args:
        batch: with ``domain``.
        keys: one a sample.
        domains: how many there are, at least two.
        shape: of a sample's u.
    """
    pair = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, 3)))(keys)
    step = jax.vmap(lambda key: jax.random.randint(key, (), 1, domains))(pair[:, 0])
    look = jax.vmap(lambda key: jax.random.normal(key, shape))(pair[:, 1])
    return {**batch, "other": (batch["domain"] + step) % domains, "exchange": look}


def targets(batch: Batch, classes: int) -> tuple[Float[Array, "b *s k"], Float[Array, " b"]]:
    """Masks of the foreground classes (0 where unknown), and which samples' are known."""
    known = batch["has_mask"]
    mask = (batch["label"][..., None] == jnp.arange(1, classes)).astype(jnp.float32)
    return mask * known.reshape(-1, *[1] * (mask.ndim - 1)), known
