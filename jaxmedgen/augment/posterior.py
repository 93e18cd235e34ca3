"""Deformations sampled from a model of the training subjects' velocities (PADDIT's samples).

The model has posterior samples ``v_k`` for each training subject k; ``I_k o phi(v_k)`` is like the
template. Image and label are moved by the same map and resampled once:

=============  =====================================================  ==========================
mode           map                                                    result
=============  =====================================================  ==========================
``posterior``  ``I_k o phi(v_k)``, a sample of its own                template-like (PADDIT)
``cross``      ``I_j o phi(v_k)``, a sample of another subject        shape of j less that of k
``swap``       ``I_j o phi(v_j) o phi(v_k)^-1``                       j in the shape of k
``prior``      ``I_j o phi(v)`` with v of the prior                   no likelihood
=============  =====================================================  ==========================

Source: Orbes-Arteaga et al., "PADDIT", 2019; ``swap`` takes the inverse maps as well.
"""

import dataclasses
import functools
from typing import Literal

import jax
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.augment.draws import split_keys
from jaxmedgen.augment.policy import Augmentation
from jaxmedgen.augment.spatial import Spatial
from jaxmedgen.ops.fields import compose
from jaxmedgen.ops.velocity_flows import VelocityFlow
from jaxmedgen.ops.velocity_priors import Hyper
from jaxmedgen.types import Augment

PosteriorMode = Literal["posterior", "cross", "swap", "prior"]


@dataclasses.dataclass(frozen=True, eq=False)
class PosteriorAugmentation:
    """Cached velocity samples as a random transform; a `SubjectAugment`.

    Velocities are kept, not warped images: the map is computed in the step.

    Attributes:
        flow: from whitened velocities to maps.
        hyper: of their prior.
        draws: whitened velocities, ``[subjects, samples, *x]``.
        mode: see the module.
        policy: what else happens to image and label; its spatial stage gets the deformation.
        spacing: voxel size in mm.
        probability: chance that a sample is deformed.
    """

    flow: VelocityFlow
    hyper: Hyper
    draws: Float[Array, " k samples *x"]
    mode: PosteriorMode | str
    policy: Augmentation
    spacing: tuple[float, ...]
    probability: float | int = 0.5

    def __post_init__(self) -> None:
        if self.mode not in ("posterior", "cross", "swap", "prior"):
            raise ValueError(
                f"mode {self.mode!r} is unknown: use 'posterior', 'cross', 'swap' or 'prior'"
            )
        if self.mode in ("cross", "swap") and self.draws.shape[0] < 2:
            raise ValueError(f"mode {self.mode!r} needs samples of at least two subjects")

    def for_subjects(self, case: Int[Array, " b"]) -> Augment:
        """The transform of a batch of the training subjects `case`."""
        spatial = self.policy.spatial or Spatial(spacing=self.spacing)
        spatial = dataclasses.replace(
            spatial,
            sample_field=functools.partial(self.displacement, case),
            sample_field_p=self.probability,
        )
        return dataclasses.replace(self.policy, spatial=spatial)

    def displacement(
        self, case: Int[Array, " b"], keys: Key[Array, " b"]
    ) -> Float[Array, " b *s n"]:
        """Random displacements in voxels.

        Args:
            case: training subjects whose images are moved.
            keys: one a sample.
        """
        first, second, third = split_keys(keys, 3)
        if self.mode == "prior":
            shape = self.draws.shape[2:]
            xi = jax.vmap(lambda key: jax.random.normal(key, shape))(first)
            return self.flow.displacement(xi, self.hyper)
        if self.mode == "posterior":
            return self.flow.displacement(self._pick(first, case), self.hyper)
        count = self.draws.shape[0]
        away = jax.vmap(lambda key: jax.random.randint(key, (), 1, count))(second)
        other = (case + away) % count
        if self.mode == "cross":
            return self.flow.displacement(self._pick(first, other), self.hyper)
        to_template = self.flow.displacement(self._pick(first, case), self.hyper)
        return compose(to_template, self.flow.inverse(self._pick(third, other), self.hyper))

    def _pick(self, keys, case):
        samples = self.draws.shape[1]
        number = jax.vmap(lambda key: jax.random.randint(key, (), 0, samples))(keys)
        return self.draws[case, number]
