"""Tiny systems for the tests of the training machinery: a regression and a two-player GAN."""

import dataclasses
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmedgen.data.pipeline import training_stream
from jaxmedgen.data.sources import ArraySource, DatasetInfo
from jaxmedgen.ops.collectives import all_mean, axis_name
from jaxmedgen.train.objectives import LossOutputs, Objective, PlayerSettings
from jaxmedgen.train.state import create_state


def blobs(count=12, shape=(8, 8), seed=0):
    """A source of 2D discs on noise with their masks."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    records = []
    for _ in range(count):
        centre = rng.uniform(2, np.array(shape) - 2)
        label = (np.linalg.norm(grid - centre, axis=-1) < rng.uniform(1.5, 3)).astype(np.int32)
        image = (label + 0.1 * rng.standard_normal(shape)).astype(np.float32)[..., None]
        records.append({"image": image, "label": label})
    names = tuple(f"blob{i}" for i in range(count))
    return ArraySource(
        records, DatasetInfo(("background", "disc"), ("grey",), (1.0,) * len(shape), names)
    )


def stream(batch_size=4, seed=0, count=12):
    """A training stream of blobs, read in the calling thread."""
    return training_stream(blobs(count), batch_size=batch_size, seed=seed, num_threads=0)


@dataclasses.dataclass(frozen=True)
class Regression:
    """Pixelwise logistic regression with per-sample noise as augmentation."""

    learning_rate: float = 0.1
    poison_case: int = -1
    ema_decay: float | None = None

    def players(self):
        return {"net": PlayerSettings(optax.adam(self.learning_rate), self.ema_decay)}

    def init(self, key, batch):
        params = {"w": jnp.ones(batch["image"].shape[-1]), "b": jnp.zeros(())}
        return create_state(key, {"net": {"params": params}}, self.players())

    def objectives(self):
        return (Objective("fit", ("net",), self._loss),)

    def prepare(self, batch, keys):
        noise = jax.vmap(lambda k: jax.random.normal(k, batch["image"].shape[1:]))(keys)
        return {**batch, "image": batch["image"] + 0.1 * noise}

    def _loss(self, inputs):
        params, batch = inputs.variables["net"]["params"], inputs.batch
        logits = batch["image"] @ params["w"] + params["b"]
        loss = optax.sigmoid_binary_cross_entropy(logits, batch["label"].astype(jnp.float32))
        bad = jnp.where(batch["case"] == self.poison_case, jnp.nan, 0.0)
        return jnp.mean(loss.mean(axis=(1, 2)) + bad), LossOutputs()


@dataclasses.dataclass(frozen=True)
class SlowToCompile(Regression):
    """Takes seconds to trace, standing in for a long compilation."""

    seconds: float = 4.0

    def prepare(self, batch, keys):
        time.sleep(self.seconds)
        return super().prepare(batch, keys)


class Generator(nn.Module):
    """Latent ``[b, 8]`` -> image ``[b, 8, 8, 1]``."""

    @nn.compact
    def __call__(self, z, train):
        x = nn.Dense(4 * 4 * 8, use_bias=False)(z)  # batch norm follows
        x = nn.BatchNorm(use_running_average=not train, axis_name=axis_name())(x)
        x = nn.relu(x).reshape(-1, 4, 4, 8)
        x = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
        return nn.Conv(1, (3, 3))(x)


class Discriminator(nn.Module):
    """Image -> one logit a sample, with spectrally normalised layers."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.SpectralNorm(nn.Conv(8, (3, 3), (2, 2)))(x, update_stats=train)
        x = nn.leaky_relu(x, 0.2)
        x = nn.SpectralNorm(nn.Conv(16, (3, 3), (2, 2)))(x, update_stats=train)
        x = nn.leaky_relu(x, 0.2).reshape(x.shape[0], -1)
        return nn.SpectralNorm(nn.Dense(1))(x, update_stats=train)[:, 0]


@dataclasses.dataclass(frozen=True)
class TinyGan:
    """Hinge GAN with a lazy R1 penalty: three objectives, two players, two kinds of variables."""

    penalty_every: int = 4

    def players(self):
        return {
            "generator": PlayerSettings(optax.adam(2e-3, b1=0.0), ema_decay=0.9),
            "discriminator": PlayerSettings(optax.adam(2e-3, b1=0.0)),
        }

    def init(self, key, batch):
        keys = jax.random.split(key, 3)
        variables = {
            "generator": Generator().init(keys[0], jnp.zeros((2, 8)), train=True),
            "discriminator": Discriminator().init(keys[1], jnp.zeros((2, 8, 8, 1)), train=True),
        }
        return create_state(keys[2], variables, self.players())

    def objectives(self):
        return (
            Objective("discriminator", ("discriminator",), self._discriminator),
            Objective("generator", ("generator",), self._generator),
            Objective("r1", ("discriminator",), self._penalty, every=self.penalty_every),
        )

    def prepare(self, batch, keys):
        return batch

    def sample(self, variables, keys):
        """Images from one key each."""
        z = jax.vmap(lambda k: jax.random.normal(k, (8,)))(keys)
        return Generator().apply(variables["generator"], z, train=False)

    def _fake(self, inputs):
        z = jax.vmap(lambda k: jax.random.normal(k, (8,)))(inputs.keys)
        return Generator().apply(
            inputs.variables["generator"], z, train=True, mutable=["batch_stats"]
        )

    def _judge(self, inputs, image):
        return Discriminator().apply(
            inputs.variables["discriminator"], image, train=True, mutable=["batch_stats"]
        )

    def _discriminator(self, inputs):
        fake, _ = self._fake(inputs)
        both = jnp.concatenate([inputs.batch["image"], jax.lax.stop_gradient(fake)])
        logits, variables = self._judge(inputs, both)
        real, fake = jnp.split(logits, 2)
        loss = jnp.mean(nn.relu(1 - real)) + jnp.mean(nn.relu(1 + fake))
        accuracy = all_mean(jnp.mean(jnp.concatenate([real > 0, fake < 0]).astype(jnp.float32)))
        return loss, LossOutputs({"accuracy": accuracy}, {"discriminator": variables})

    def _generator(self, inputs):
        fake, variables = self._fake(inputs)
        logits, _ = self._judge(inputs, fake)
        return -jnp.mean(logits), LossOutputs(variables={"generator": variables})

    def _penalty(self, inputs):
        def total(image):
            return jnp.sum(self._judge(inputs, image)[0])

        gradient = jax.grad(total)(inputs.batch["image"])
        return 5.0 * jnp.mean(jnp.sum(gradient**2, axis=(1, 2, 3))), LossOutputs()
