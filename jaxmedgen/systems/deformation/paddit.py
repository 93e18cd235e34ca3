"""PADDIT: a template of a population and samples of the diffeomorphisms that lead to it.

Orbes-Arteaga et al., "PADDIT: probabilistic augmentation of data using diffeomorphic image
transformation", 2019; Monte-Carlo EM with Hamiltonian Monte Carlo as in Zhang, Singh and Fletcher,
"Bayesian estimation of regularization and atlas building in diffeomorphic image registration",
2013. The mathematics of an iteration is in `paddit_em.py`.

One step of the loop is one iteration over all subjects (the batch), an `Update`: it takes no
gradient step, and what the sampler needs to go on is part of the state. Template, sigma and prior
are the player's parameters; chains and draws are its variables. The first `map_rounds` iterations
look for modes, the following sample; after `rounds` iterations the parameters are frozen, and the
draws of the last iteration are the posterior samples. With a `tolerance` each of both phases ends
as soon as the template hardly changes, and the time that is left goes to sampling.

`I_k o phi(v_k)` is like the template: pulling by phi brings an image to the template, pulling by
its inverse brings the template to an image.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.metrics.chains import DIAGNOSTICS
from jaxmedgen.ops.fields import warp
from jaxmedgen.ops.hmc import tune_start
from jaxmedgen.ops.velocity_flows import VelocityFlow, velocity_flow
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.deformation.paddit_atlas import Atlas, move_template, summarise
from jaxmedgen.systems.deformation.paddit_em import (
    EStep,
    Sampling,
    Template,
    centre,
    expectation,
    find_modes,
    rewhiten,
    smoothed,
)
from jaxmedgen.systems.deformation.paddit_moments import (
    closed_form,
    first_guess,
    iteration_metrics,
    moments,
    scatter_rows,
)
from jaxmedgen.systems.deformation.paddit_settings import check_settings
from jaxmedgen.train.objectives import LossInputs, PlayerSettings, Update, UpdateOutputs
from jaxmedgen.train.state import TrainState, create_state
from jaxmedgen.types import Batch

PLAYER = "atlas"
_REGISTRATION_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Paddit:
    """Template estimation and posterior sampling of deformations.

    Attributes:
        flow: parametrisation of v and how it is integrated.
        sampling: of the E-step.
        subjects: number of training subjects; all are in every batch.
        shape: of the images.
        channels: of the images.
        classes: of the labels.
        compared: channels that the likelihood sees.
        rounds: iterations that estimate template, sigma and prior.
        map_rounds: the first of them, which look for modes.
        steps: all iterations; those after `rounds` sample with fixed parameters.
        sampler: ``hmc``, or ``map``, which keeps to the modes.
        deviation: of the prior's velocity at the start, in voxels a component.
        smoothing: Gaussian that images and template are compared through, in voxels; 0: none.
        temperature: factor on sigma^2 in the likelihood: 1 with smoothing, else the voxels that
            share one noise.
        fit_prior: estimate the prior's scale from samples.
        alpha_rate: of gradient ascent in log alpha where the prior is estimated; 0 keeps it.
        tolerance: relative change of the template that ends the search for modes, and then the
            estimation, before their numbers of iterations are reached; 0: never.
        images_of_labels: the data have no images; their labels are compared, a channel a class.
        target_of: class of each label value, where the labels are finer than the classes.
    """

    flow: VelocityFlow
    sampling: Sampling
    subjects: int
    shape: tuple[int, ...]
    channels: int
    classes: int
    compared: tuple[int, ...]
    rounds: int
    map_rounds: int
    steps: int
    sampler: Literal["hmc", "map"] = "hmc"
    deviation: float | int = 2.0
    smoothing: float | int = 1.0
    temperature: float | int = 1.0
    fit_prior: bool = False
    alpha_rate: float | int = 0.0
    tolerance: float | int = 0.0
    images_of_labels: bool = False
    target_of: tuple[int, ...] = ()

    def players(self) -> Mapping[str, PlayerSettings]:
        """One player, the atlas; it has no optimiser."""
        return {PLAYER: PlayerSettings(optax.identity())}

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """An empty template; the first iteration fills in the mean of all subjects."""
        several = (self.subjects, self.sampling.chains)
        coordinates = self.flow.prior.coordinates
        image = jnp.zeros((*self.shape, self.channels))
        variables = {
            "params": {
                "template": image,
                "labels": jnp.zeros((*self.shape, self.classes)),
                "log_sigma": jnp.zeros(()),
                "prior": self.flow.prior.start(self.deviation),
            },
            "chains": {
                "position": jnp.zeros((*several, *coordinates)),
                "draws": jnp.zeros((*several, self.sampling.draws, *coordinates)),
                "tuning": tune_start(self.sampling.step_size, several),
                "diagnostics": {n: jnp.full(self.subjects, jnp.nan) for n in DIAGNOSTICS},
            },
            "population": {"variance": image},
        }
        if self.tolerance:
            variables["population"]["skipped"] = jnp.zeros((), jnp.int32)
        return create_state(key, {PLAYER: variables}, self.players())

    def objectives(self) -> tuple[Update, ...]:
        """An iteration of expectation-maximisation."""
        return (Update("em", (PLAYER,), self._iterate),)

    def prepare(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        """Labels as classes, and images made of them where there are none; nothing is random.

        Raises:
            ValueError: images of another shape than the template.
        """
        label = batch["label"]
        if self.target_of:
            label = jnp.asarray(self.target_of, jnp.int32)[label]
        if label.shape[1:] != self.shape:
            raise ValueError(
                f"subjects of shape {label.shape[1:]}, a template of shape {self.shape}: set "
                "data.shape (and data.spacing) so that all subjects get the template's shape"
            )
        tissues = jax.nn.one_hot(label, self.classes)[..., 1:]
        image = tissues if self.images_of_labels else batch["image"]
        return {**batch, "image": image, "label": label}

    def _iterate(self, inputs: LossInputs) -> UpdateOutputs:
        params, chains = (inputs.variables[PLAYER][name] for name in ("params", "chains"))
        image, case, count = inputs.batch["image"], inputs.batch["case"], self.subjects
        labels = jax.nn.one_hot(inputs.batch["label"], self.classes)
        skipped = inputs.variables[PLAYER]["population"].get("skipped", 0)
        at = inputs.step + skipped
        learning = at < self.rounds
        sample = (at >= self.map_rounds) & (self.sampler == "hmc")
        start = first_guess(image, self.compared, count)
        params = params | {n: jnp.where(inputs.step == 0, x, params[n]) for n, x in start.items()}
        before, hyper = params["template"], params["prior"]
        step = expectation(
            inputs.keys,
            EStep(**jax.tree.map(lambda x: x[case], chains)),
            self._seen(image),
            self._likelihood(params),
            self.flow,
            hyper,
            self.sampling,
            sample=sample if self.sampler == "hmc" else None,
            adapt=inputs.step < self.steps - 1,
        )
        centred = centre(step, count)
        step = jax.tree.map(lambda a, b: jnp.where(learning, a, b), centred, step)
        found = moments(step.draws, image, labels, self.flow, hyper, count)
        estimates, variance, spread = closed_form(found, self.compared)
        new = {**estimates, "prior": hyper}
        if self.fit_prior:
            fitted = self.flow.prior.fit(found.velocity, hyper, self.alpha_rate)
            # Modes are too small to tell the prior's scale from.
            new["prior"] = jax.tree.map(lambda a, b: jnp.where(sample, a, b), fitted, hyper)
        params = jax.tree.map(lambda a, b: jnp.where(learning, a, b), new, params)
        if self.fit_prior:
            step = rewhiten(step, self.flow.prior, hyper, params["prior"])
        rows = jax.tree.map(lambda old, x: scatter_rows(old, case, x), chains, step._asdict())
        metrics = iteration_metrics(
            params, before, found, spread, rows, step.position[:, 0], self.flow, self.compared
        )
        population = {"variance": variance}
        if self.tolerance:
            close = learning & (metrics["template_change"] < self.tolerance)
            end = jnp.where(sample | (self.sampler == "map"), self.rounds, self.map_rounds)
            population["skipped"] = jnp.where(close, end - 1 - inputs.step, skipped)
            metrics["rounds_skipped"] = population["skipped"].astype(jnp.float32)
        return UpdateOutputs(
            params={PLAYER: params},
            variables={PLAYER: {"chains": rows, "population": population}},
            metrics=metrics,
        )

    def _seen(self, image):
        return smoothed(image[..., self.compared], self.smoothing)

    def _likelihood(self, params):
        variance = self.temperature * jnp.exp(2 * params["log_sigma"])
        return Template(self._seen(params["template"][None])[0], variance)

    def register(
        self, variables: PlayerVariables, image: Float[Array, " b *s c"]
    ) -> Float[Array, " b *x"]:
        """Whitened velocities of the modes of new images: ``I o phi`` is like the template."""
        params = variables[PLAYER]["params"]
        start = jnp.zeros((image.shape[0], *self.flow.prior.coordinates))
        return find_modes(
            start,
            self._seen(image),
            self._likelihood(params),
            self.flow,
            params["prior"],
            self.sampling,
            _REGISTRATION_STEPS,
        )

    def predict(
        self, variables: PlayerVariables, image: Float[Array, " b *s c"]
    ) -> Float[Array, " b *s k"]:
        """Class probabilities by the atlas: its labels moved to each image."""
        params = variables[PLAYER]["params"]
        back = self.flow.inverse(self.register(variables, image), params["prior"])
        labels = jnp.broadcast_to(params["labels"], (image.shape[0], *params["labels"].shape))
        return warp(labels, back)

    def sample(
        self, variables: PlayerVariables, keys: Key[Array, " b"], label: Int[Array, " b *s"]
    ) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
        """New subjects: the template and its labels moved by velocities of the prior.

        The given labels are not used; the atlas has its own.
        """
        coordinates = self.flow.prior.coordinates
        xi = jax.vmap(lambda key: jax.random.normal(key, coordinates))(keys)
        both = move_template(self.flow, variables[PLAYER]["params"], xi)
        return both[..., : self.channels], jnp.argmax(both[..., self.channels :], -1)

    def atlas(
        self,
        variables: PlayerVariables,
        modes: int = 3,
        deviations: tuple[float | int, ...] = (-2, 0, 2),
    ) -> Atlas:
        """Template, variance, labels, and the template moved along the principal modes.

        Args:
            variables: of a trained state.
            modes: at most one fewer than subjects.
            deviations: along each mode, in its standard deviations.
        """
        return summarise(self.flow, variables[PLAYER], modes, deviations)


def build(config: Any, info: DatasetInfo) -> Paddit:
    """The system of a configuration for a data set.

    Raises:
        ValueError: settings that do not fit each other or the data.
    """
    check_settings(config, info)
    model, made_of_labels = config.model, not info.channel_names
    channels = info.num_classes - 1 if made_of_labels else len(info.channel_names)
    shape = tuple(config.data.shape)
    return Paddit(
        flow=velocity_flow(shape, **model.velocity),
        sampling=Sampling(**model.sampling),
        subjects=config.batch_size,
        shape=shape,
        channels=channels,
        classes=info.num_classes,
        compared=tuple(range(channels)) if made_of_labels else tuple(model.compared),
        rounds=model.rounds,
        map_rounds=model.map_rounds,
        steps=config.steps,
        sampler=model.sampler,
        deviation=model.deviation,
        smoothing=model.smoothing,
        temperature=model.temperature,
        fit_prior=model.fit_prior,
        alpha_rate=model.alpha_rate,
        tolerance=model.get("tolerance", 0.0),
        images_of_labels=made_of_labels,
        target_of=tuple(config.data.target_of),
    )
