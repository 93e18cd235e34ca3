"""Losses of generators and their discriminators.

Discriminators return logits: one map, or one a scale (`nets.discriminators`). A loss is the mean
over positions and samples of each map, averaged over the maps. Which player a loss trains is the
objective's business: stop the gradient of the fakes in the discriminator's loss.

Sources: Goodfellow et al., NeurIPS 2014 (jsgan, non-saturating); Mao et al., ICCV 2017 (lsgan);
Arjovsky et al., ICML 2017 (wgan); Lim & Ye, 2017 and Miyato et al., ICLR 2018 (hinge);
Jolicoeur-Martineau, ICLR 2019 (relativistic average); Mescheder et al., ICML 2018, eq. 9 (R1);
Gulrajani et al., NeurIPS 2017 (wgan-gp); Wang et al., CVPR 2018, eq. 4 (feature matching).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxmedgen.ops.collectives import all_mean, axis_name

KINDS = ("hinge", "lsgan", "wgan", "jsgan", "relativistic")
Logits = Float[Array, "_ ..."]
Maps = Sequence[Float[Array, " b ... _"]]


def discriminator_loss(
    kind: str, real: Logits | Sequence[Logits], fake: Logits | Sequence[Logits]
) -> Float[Array, ""]:
    """What the discriminator minimises.

    With ``r = D(real)``, ``f = D(fake)`` and means over positions and samples:

    - hinge: ``E max(0, 1 - r) + E max(0, 1 + f)``
    - lsgan: ``E (r - 1)^2 + E f^2``
    - wgan: ``E f - E r``
    - jsgan: ``E softplus(-r) + E softplus(f)``
    - relativistic: jsgan of ``r - E f`` and ``f - E r``

    Args:
        kind: one of `KINDS`.
        real: logits of real samples, one map or one a scale.
        fake: logits of generated ones, likewise.

    Raises:
        ValueError: unknown kind, or another number of maps for real and fake.
    """
    return _over_scales(kind, _discriminator, real, fake)


def generator_loss(
    kind: str, fake: Logits | Sequence[Logits], real: Logits | Sequence[Logits] | None = None
) -> Float[Array, ""]:
    """What the generator minimises: the non-saturating counterpart of `discriminator_loss`.

    Args:
        kind: one of `KINDS`.
        fake: logits of generated samples, one map or one a scale.
        real: logits of real samples; needed by ``relativistic`` only.

    Raises:
        ValueError: unknown kind, or no `real` where it is needed.
    """
    if kind == "relativistic" and real is None:
        raise ValueError("generator_loss: kind 'relativistic' compares with real: give real=")
    return _over_scales(kind, _generator, fake if real is None else real, fake)


def feature_matching(real: Sequence[Maps], fake: Sequence[Maps]) -> Float[Array, ""]:
    """Mean absolute difference of a discriminator's maps, its logits left out.

    Summed over layers and averaged over scales; no gradient flows into the maps of the real ones.

    Args:
        real: maps by scale and layer, the last of each scale being its logits.
        fake: likewise.

    Raises:
        ValueError: nothing but logits is given.
    """
    if any(len(maps) < 2 for maps in real):
        raise ValueError("feature_matching: a scale has no maps besides its logits")
    scales = [
        sum(
            jnp.mean(jnp.abs(f.astype(jnp.float32) - jax.lax.stop_gradient(r).astype(jnp.float32)))
            for r, f in zip(real_maps[:-1], fake_maps[:-1], strict=True)
        )
        for real_maps, fake_maps in zip(real, fake, strict=True)
    ]
    return sum(scales) / len(scales)


def gradient_penalty(
    critic: Callable[[Float[Array, " b *s c"]], Logits | Sequence[Logits]],
    real: Float[Array, " b *s c"],
    fake: Float[Array, " b *s c"] | None = None,
    keys: Key[Array, " b"] | None = None,
    kind: str = "r1",
) -> Float[Array, ""]:
    """A penalty on the gradient of the discriminator's output with respect to its input.

    r1: ``E ||grad D(real)||^2 / 2``. wgan-gp: ``E (||grad D(x)|| - 1)^2`` at points ``x`` between
    real and fake samples. The output of a patch discriminator is the mean of its map; scales add.

    Args:
        critic: images to logits; must treat samples one by one (no batch statistics).
        real: real images.
        fake: generated images, for wgan-gp.
        keys: one a sample, for wgan-gp.
        kind: ``r1`` or ``wgan-gp``; the weight is the caller's.

    Raises:
        ValueError: unknown kind, or wgan-gp without `fake` and `keys`.
    """

    def total(images):
        logits = critic(images)
        maps = (logits,) if isinstance(logits, jax.Array) else tuple(logits)
        return sum(jnp.sum(m.astype(jnp.float32).reshape(len(m), -1).mean(1)) for m in maps)

    axes = tuple(range(1, real.ndim))
    if kind == "r1":
        gradient = jax.grad(total)(real)
        return 0.5 * jnp.mean(jnp.sum(jnp.square(gradient), axes))
    if kind != "wgan-gp":
        raise ValueError(f"gradient_penalty: kind={kind!r}: choose 'r1' or 'wgan-gp'")
    if fake is None or keys is None:
        raise ValueError("gradient_penalty: 'wgan-gp' needs fake= and keys=")
    share = jax.vmap(jax.random.uniform)(keys).reshape(-1, *[1] * (real.ndim - 1))
    gradient = jax.grad(total)(share * real + (1 - share) * fake)
    # The root's derivative is infinite at zero, where a fresh critic may well be flat.
    norm = jnp.sqrt(jnp.sum(jnp.square(gradient), axes) + 1e-12)
    return jnp.mean(jnp.square(norm - 1))


def discriminator_accuracy(
    kind: str, real: Logits | Sequence[Logits], fake: Logits | Sequence[Logits]
) -> Float[Array, ""]:
    """Share of positions that the discriminator judges rightly: 0.5 is chance, 1 saturation.

    The threshold is 0 (lsgan: 1/2; wgan and relativistic, whose logits have no zero: the mean of
    real and fake).
    """

    def one(kind, r, f):
        if kind in ("wgan", "relativistic"):
            threshold = 0.5 * (all_mean(r.mean()) + all_mean(f.mean()))
        else:
            threshold = 0.5 if kind == "lsgan" else 0.0
        right = 0.5 * (jnp.mean(r > threshold) + jnp.mean(f < threshold))
        return jax.lax.stop_gradient(right)

    return _over_scales(kind, one, real, fake)


def relative_diversity(
    fake: Float[Array, " b *s c"], real: Float[Array, " b *s c"]
) -> Float[Array, ""]:
    """Deviation over the batch of generated images in units of that of the real ones.

    About 1 for a good generator, 0 for one that always makes the same image. Root of the mean
    variance of a voxel over the global batch. NaN, which logs leave out, for a global batch of one:
    it does not vary.
    """
    if is_batch_of_one(fake):
        return jnp.full((), jnp.nan, jnp.float32)

    def deviation(x):
        x = x.astype(jnp.float32)
        mean = all_mean(x.mean(0))
        return jnp.sqrt(jnp.mean(all_mean(jnp.square(x - mean).mean(0))))

    return jax.lax.stop_gradient(deviation(fake) / (deviation(real) + 1e-8))


def is_batch_of_one(x: Float[Array, " b ..."]) -> bool:
    """Whether the global batch is a single sample; of shapes alone, known while tracing."""
    name = axis_name()
    return len(x) * (1 if name is None else jax.lax.axis_size(name)) == 1


def _over_scales(kind, loss, real, fake):
    if kind not in KINDS:
        raise ValueError(f"unknown GAN loss '{kind}': choose one of {', '.join(KINDS)}")
    real, fake = ((x,) if isinstance(x, jax.Array) else tuple(x) for x in (real, fake))
    if len(real) != len(fake):
        raise ValueError(f"{len(real)} maps of real samples but {len(fake)} of fake ones")
    single = [loss(kind, r.astype(jnp.float32), f.astype(jnp.float32)) for r, f in zip(real, fake)]
    return sum(single) / len(single)


def _discriminator(kind, r, f):
    if kind == "hinge":
        return jnp.mean(jax.nn.relu(1 - r)) + jnp.mean(jax.nn.relu(1 + f))
    if kind == "lsgan":
        return jnp.mean(jnp.square(r - 1)) + jnp.mean(jnp.square(f))
    if kind == "wgan":
        return jnp.mean(f) - jnp.mean(r)
    if kind == "relativistic":
        r, f = r - all_mean(f.mean()), f - all_mean(r.mean())
    return jnp.mean(jax.nn.softplus(-r)) + jnp.mean(jax.nn.softplus(f))


def _generator(kind, r, f):
    if kind == "lsgan":
        return jnp.mean(jnp.square(f - 1))
    if kind == "jsgan":
        return jnp.mean(jax.nn.softplus(-f))
    if kind == "relativistic":
        return _discriminator(kind, f, r)
    return -jnp.mean(f)
