"""Deformations drawn from the latent space of a trained model of a population's shapes.

The model knows a latent vector z, a decoder of it to the parameters of a map, and the posterior of
each training subject (`systems/deformation/it_vae.py`). The real image and its label are moved by
one composed map and resampled once:

=========  ============================================  ===================================
mode       latent vector                                 image
=========  ============================================  ===================================
naive      ``z ~ N(0, I)``                               ``T(z) x_i``
instance   ``z ~ N(m_i, tau^2 s_i^2)``                   ``T(z) T(m_i)^-1 x_i``
mixed      ``z ~ N(m_j, tau^2 s_j^2)``, another subject  ``T(z) T(m_i)^-1 x_i``
           j, or ``sum_k w_k m_k`` of random weights
=========  ============================================  ===================================

Source: Middleton, Pai, Nielsen & Sommer, "Augmentation of brain MRIs using disentanglement and
neural network expressivity" (naive, instance-specific and mixed-instance sampling).
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.augment.draws import split_keys
from jaxmedgen.augment.mixing import Labels
from jaxmedgen.augment.outside import outside_of
from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.spatial import Spatial
from jaxmedgen.augment.statistics import value_range
from jaxmedgen.ops.fields import identity_grid
from jaxmedgen.ops.resample import resample, resample_labels
from jaxmedgen.ops.transformers import Transformer

LatentMode = Literal["naive", "instance", "mixed"]
Blend = Literal["pick", "dirichlet"]


@dataclasses.dataclass(frozen=True, eq=False)
class LatentAugmentation:
    """A random transform of image and label, one key a sample.

    Attributes:
        encode: ``image [b, *s, c] -> mean, log-variance [b, d]`` of the posterior.
        decode: ``z [b, d] -> parameters [b, k]`` of the transformer.
        transformer: family of maps.
        means: posterior means of the training subjects ``[n, d]``.
        log_variances: their posterior log-variances.
        mode: how z is drawn, see the module.
        temperature: tau, factor of the posteriors' standard deviations (1 to 3).
        blend: what ``mixed`` mixes: ``pick`` takes one other subject, ``dirichlet`` the mean of
            all with weights uniform on the simplex.
        unwarp: whether ``instance`` and ``mixed`` undo the subject's own map first; False deforms
            the image as it is.
        probability: chance that a sample is transformed at all.
        redraw: ``keys, image -> image`` in the common frame with another appearance, which is shown
            in place of the real one. Decoded images are blurred: None deforms the real image.
        policy: what else happens to image and label, and what lies beyond the border. Its spatial
            maps and the deformation are composed and the image is resampled once (a redrawn one
            twice).
    """

    encode: Callable[[Array], tuple[Array, Array]]
    decode: Callable[[Array], Array]
    transformer: Transformer
    means: Float[Array, " n d"]
    log_variances: Float[Array, " n d"]
    mode: LatentMode = "mixed"
    temperature: float | int = 1.0
    blend: Blend = "pick"
    unwarp: bool = True
    probability: float | int = 0.5
    redraw: Callable[[Array, Array], Array] | None = None
    policy: Augmentation | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("naive", "instance", "mixed"):
            raise ValueError(f"mode='{self.mode}': choose naive, instance or mixed")
        if self.blend not in ("pick", "dirichlet"):
            raise ValueError(f"blend='{self.blend}': choose pick or dirichlet")
        if self.redraw is not None and (self.mode == "naive" or not self.unwarp):
            raise ValueError(
                "redraw= shows images in the common frame, so labels must be brought there too: "
                "set mode to 'instance' or 'mixed' and unwarp=True"
            )
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability={self.probability} is none: use 0 to 1")
        if self.mode == "mixed" and self.blend == "pick" and len(self.means) < 2:
            raise ValueError(
                "mode='mixed' shows a subject in the perspective of another: it needs two or more "
                f"training subjects, there are {len(self.means)}"
            )

    def __call__(
        self, keys: Key[Array, " b"], image: Float[Array, " b *s c"], label: Int[Array, " b *s"]
    ) -> tuple[Float[Array, " b *s c"], Labels]:
        """Deforms a batch.

        Args:
            keys: one a sample.
            image: training images as the model saw them.
            label: class indices, moved by the same map (nearest voxel, unless the policy says
                otherwise).

        Returns:
            Image and label; soft labels ``[b, *s, k]`` from a policy with mixup.
        """
        if self.redraw is not None:
            if self.policy is None:
                return self._redrawn(keys, image, label)
            first, second = split_keys(keys, 2)
            return self.policy(second, *self._redrawn(first, image, label))
        # Alone as with a preset: air and label 0 beyond the border, labels of the nearest voxel.
        policy = self.policy or Augmentation()
        spatial = policy.spatial or Spatial(spacing=(1.0,) * (image.ndim - 2))
        grid = identity_grid(image.shape[1:-1])
        spatial = dataclasses.replace(
            spatial,
            sample_field=lambda keys: self.coordinates(keys, image) - grid,
            sample_field_p=self.probability,
        )
        return dataclasses.replace(policy, spatial=spatial)(keys, image, label)

    def _redrawn(self, keys, image, label):
        draw_keys, on_keys, redraw_keys = split_keys(keys, 3)
        coordinates, common = self._coordinates(draw_keys, image)
        on = jax.vmap(jax.random.bernoulli, (0, None))(on_keys, float(self.probability))

        def choose(a, b):
            return jnp.where(on.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

        drawn = self.redraw(redraw_keys, image)
        air = self._air(drawn, image)
        moved = resample(drawn, common, mode="constant", fill=air)
        return choose(moved, image), choose(resample_labels(label, coordinates), label)

    def _air(self, drawn, image):
        # Decoded air is of no one value: where the policy knows of any, it is the real image's.
        outside = None if self.policy is None else outside_of(self.policy.background, image)
        return value_range(drawn)[0] if outside is None else outside.value

    def coordinates(
        self, keys: Key[Array, " b"], image: Float[Array, " b *s c"]
    ) -> Float[Array, " b *s n"]:
        """Where each voxel of the deformed images looks, in voxels."""
        return self._coordinates(keys, image)[0]

    def _coordinates(self, keys, image):
        """The same, and where it looks in an image of the common frame."""
        shape = image.shape[1:-1]
        own, spread = self.encode(image)
        z = self.draw(keys, own, spread)
        points = common = self.transformer.coordinates(self.decode(z), shape)
        if self.unwarp and self.mode != "naive":
            # T(z) T(m)^-1 x at p is x(phi_m^-1(phi_z(p))).
            points = self.transformer.move(self.decode(own), points, shape, inverse=True)
        return jax.lax.stop_gradient((points, common))

    def draw(
        self,
        keys: Key[Array, " b"],
        own: Float[Array, " b d"],
        own_log_variance: Float[Array, " b d"],
    ) -> Float[Array, " b d"]:
        """Latent vectors.

        Args:
            keys: one a sample.
            own: posterior means of the images to be deformed.
            own_log_variance: their log-variances.
        """
        noise_keys, mix_keys = split_keys(keys, 2)
        noise = jax.vmap(lambda key: jax.random.normal(key, own.shape[1:]))(noise_keys)
        if self.mode == "naive":
            return noise
        mean, log_variance = own, own_log_variance
        if self.mode == "mixed" and self.blend == "dirichlet":
            weights = jax.vmap(lambda key: jax.random.dirichlet(key, jnp.ones(len(self.means))))
            return jnp.matmul(weights(mix_keys), self.means, precision="highest")
        if self.mode == "mixed":
            # The image is one of the training subjects: the nearest in latent space is itself.
            itself = jnp.argmin(jnp.sum((own[:, None] - self.means) ** 2, -1), -1)
            apart = jnp.sum((self.means[itself][:, None] - self.means) ** 2, -1)
            # A subject that is among them twice is no other one.
            others = jnp.where(apart > 1e-10 * (1 + jnp.sum(own**2, -1))[:, None], 0.0, -jnp.inf)
            other = jax.vmap(jax.random.categorical)(mix_keys, others)
            mean, log_variance = self.means[other], self.log_variances[other]
        return mean + self.temperature * jnp.exp(0.5 * log_variance) * noise
