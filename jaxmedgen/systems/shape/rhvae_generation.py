"""What models of `rhvae` make of their latent spaces: draws, ways between images, reports of both.

The base class of the system, apart from what is trained.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxmedgen.nets.coupling_flow import CouplingFlow
from jaxmedgen.nets.gaussian_heads import check_classes
from jaxmedgen.nets.metric_vae import MetricVae
from jaxmedgen.ops.grouping import Places, from_groups, places_of_groups, to_groups
from jaxmedgen.ops.metric_shooting import geodesic_between
from jaxmedgen.ops.riemannian_metric import NOWHERE, CentroidMetric, metric_of_factors
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.shape.rhvae_bound import Bound
from jaxmedgen.systems.shape.rhvae_content import Content
from jaxmedgen.systems.shape.rhvae_sampling import Chains, Sampling, draw_chains
from jaxmedgen.systems.shape.rhvae_training import DENSITY, PLAYER
from jaxmedgen.types import Batch, Params


class DrawnFromMetric(abc.ABC):
    """VAEs with metrics, one a kind; attributes as `rhvae.Rhvae` has them."""

    net: MetricVae
    content: Content
    bound: Bound
    sampling: Sampling
    temperature: float | int
    regularisation: float | int
    kinds: int
    condition_keys: tuple[str, ...]
    centroids: int
    density: CouplingFlow | None

    def check_record(self, record: Mapping[str, Any]) -> None:
        """Refuses a record of a kind that there is no model of.

        Raises:
            ValueError: its kind is below 0 or from `kinds` on.
        """
        for name in self.condition_keys:
            check_classes(np.asarray(record[name]), self.kinds, f"'{name}' (model.kinds)")

    def prior_levels(
        self, variables: PlayerVariables, noise: Mapping[str, Array], batch: Batch
    ) -> dict[str, Float[Array, " b _"]]:
        """Draws by the sampler of the settings; the bits of the noise seed its chains."""
        return self.reported_levels(variables, noise, batch)[0]

    def reported_levels(
        self, variables: PlayerVariables, noise: Mapping[str, Array], batch: Batch
    ) -> tuple[dict[str, Float[Array, " b _"]], dict[str, Float[Array, " b"]]]:
        """`prior_levels` and how each draw came about.

        ``acceptance``: mean of the chain, where there is one; ``distance``: from the draw to the
        nearest training image's latent, in temperatures (only with a learned metric).
        """
        z = noise["z"]
        bits = jax.lax.bitcast_convert_type(z.astype(jnp.float32), jnp.uint32)
        seeds = bits[:, 0] ^ (bits[:, -1] * jnp.uint32(2654435761))
        keys = jax.vmap(jax.random.key)(seeds)
        places = self.group(batch, z.shape[0])
        made = self.chains(variables, to_groups(places, keys), noise=to_groups(places, z))
        report = {}
        if self.bound.geometry == "learned":
            report["distance"] = from_groups(places, made.distance) / self.temperature
        if made.acceptance is not None:
            report["acceptance"] = from_groups(places, made.acceptance)
        return {"z": from_groups(places, made.position)}, report

    def between_levels(
        self, variables: PlayerVariables, ends: Mapping[str, Array], pair: Batch, count: int
    ) -> dict[str, Float[Array, " n _"]]:
        """Points at equal steps of the geodesic between two latents, without a metric of the line.

        Args:
            variables: of a trained state.
            ends: two latents.
            pair: the two records, of one kind.
            count: points, ends included.
        """
        kind, corners = self._kind(pair)[0], ends["z"]
        if self.bound.geometry == "learned":
            metric = jax.tree.map(lambda x: x[kind], self.metric(variables))
            corners = geodesic_between(metric, corners[:1], corners[1:])[:, 0]
        t = jnp.linspace(0.0, len(corners) - 1.0, count)
        place = jnp.arange(len(corners), dtype=t.dtype)
        return {"z": jax.vmap(lambda x: jnp.interp(t, place, x), 1, 1)(corners)}

    def check_pair(self, pair: Mapping[str, Any]) -> None:
        """Refuses a way between two records that there is none for.

        Raises:
            ValueError: they are of two kinds.
        """
        for name in self.condition_keys:
            kinds = np.asarray(pair[name]).tolist()
            if len(set(kinds)) > 1:
                raise ValueError(
                    f"interpolation between '{name}' {kinds[0]} and {kinds[1]}: each kind has a "
                    "latent space of its own, give one --condition for both"
                )

    def decode_levels(
        self, variables: PlayerVariables, latents: Mapping[str, Array], batch: Batch
    ) -> Float[Array, " b *s c"]:
        """Mean images and class probabilities of latents, by the model of each one's kind."""
        places = self.group(batch, latents["z"].shape[0])
        return from_groups(places, self.decode(variables, to_groups(places, latents["z"])))

    def draw(
        self,
        variables: PlayerVariables,
        keys: Key[Array, "k n"],
        prior: str | None = None,
        noise: Float[Array, "k n d"] | None = None,
    ) -> Float[Array, "k n d"]:
        """New latents of every kind, see `chains`."""
        return self.chains(variables, keys, prior, noise).position

    def chains(
        self,
        variables: PlayerVariables,
        keys: Key[Array, "k n"],
        prior: str | None = None,
        noise: Float[Array, "k n d"] | None = None,
    ) -> Chains:
        """New latents of every kind, and how they came about.

        Args:
            variables: of a trained state.
            keys: one a latent.
            prior: another one than the settings name, see `rhvae_sampling.PRIORS`.
            noise: standard normal numbers for priors that are made of them.
        """
        sampling = dataclasses.replace(self.sampling, prior=prior or self.sampling.prior)
        density = variables[DENSITY] if sampling.prior == "density" and self.density else None
        return draw_chains(sampling, keys, self.metric(variables), self.density, density, noise)

    def decode(
        self, variables: PlayerVariables, z: Float[Array, "k n d"]
    ) -> Float[Array, "k n *s c"]:
        """Mean images and class probabilities of every kind's latents."""
        return jax.vmap(lambda p, z: self.content.mean(self.decode_one(p, z)))(
            variables[PLAYER]["params"], z
        )

    def decode_one(self, params: Params, z: Float[Array, "n d"]) -> Float[Array, "n *s c"]:
        """The decoder's output for latents of one kind."""
        return self.net.apply({"params": params}, z, method="decode")

    def metric(self, variables: PlayerVariables) -> CentroidMetric:
        """The metric of every kind's training samples; arrays have a leading axis of kinds."""
        kept = variables[PLAYER]["metric"]
        places = places_of_groups(kept["kind"], self.kinds, self.centroids)
        return self.metric_of(
            to_groups(places, kept["centroids"]), to_groups(places, kept["factors"]), places.filled
        )

    def metric_of(
        self,
        centroids: Float[Array, "k n d"],
        factors: Float[Array, "k n d d"],
        filled: Array,
    ) -> CentroidMetric:
        """Metrics of samples by kind; empty places lie nowhere. Flat: the identity."""
        flat = self.bound.geometry != "learned"
        centroids = jnp.where(filled[..., None], centroids, NOWHERE)
        factors = jnp.where(filled[..., None, None] & (not flat), factors, 0.0)
        regularisation = 1.0 if flat else self.regularisation
        return jax.vmap(lambda c, f: metric_of_factors(c, f, self.temperature, regularisation))(
            centroids, factors
        )

    def group(self, batch: Batch, capacity: int) -> Places:
        """Places of a batch's samples, `capacity` a kind."""
        return places_of_groups(self._kind(batch), self.kinds, capacity)

    def _kind(self, batch: Batch) -> Int[Array, " b"]:
        if not self.condition_keys:
            return jnp.zeros(batch[next(iter(batch))].shape[0], jnp.int32)
        return batch[self.condition_keys[0]].astype(jnp.int32)
