"""The linear VAE, whose optimum is known in closed form: probabilistic principal components.

With a diagonal posterior the optimum has orthogonal decoder columns, so that the bound is tight
(Lucas, Tucker, Grosse & Norouzi, "Don't blame the ELBO!", NeurIPS 2019).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import Sources
from jaxmedgen.data.sources import ArraySource, DatasetInfo
from jaxmedgen.ops.principal_components import PPCA, fit_principal_components, probabilistic

LENGTH = 20
SIGNAL = 4
COUNTS = (2000, 500)
_STRENGTHS = (3.0, 2.4, 1.8, 1.2)
_NOISE = 0.5
STEPS = 5000


def gaussian_data(
    seed: int,
) -> tuple[Float[np.ndarray, "n 20 1"], Float[np.ndarray, "m 20 1"]]:
    """Training and test vectors with four directions of signal in twenty."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(LENGTH, SIGNAL)))[0] * np.array(_STRENGTHS)
    centre = rng.normal(size=LENGTH)
    made = []
    for count in COUNTS:
        signal = rng.normal(size=(count, SIGNAL)) @ directions.T
        x = centre + signal + _NOISE * rng.normal(size=(count, LENGTH))
        made.append(x.astype(np.float32)[..., None])
    return made[0], made[1]


def gaussian_sources(seed: int) -> Sources:
    """The same as sources."""
    parts = []
    for name, data in zip(("train", "test"), gaussian_data(seed)):
        names = tuple(f"{name}-{i:05d}" for i in range(len(data)))
        info = DatasetInfo(("background",), ("x",), (1.0,), names)
        parts.append(ArraySource([{"image": x} for x in data], info))
    return Sources(parts[0], parts[1], parts[1], parts[0].info)


def linear_config(seed: int) -> ConfigDict:
    """The linear arm for these vectors."""
    config = load_config("vae:cpu,arm=linear")
    with config.unlocked():
        config.seed, config.steps, config.checkpoint_every = seed, STEPS, STEPS
        config.show_every, config.log_every = 0, 500
        config.data.shape, config.model.latents = (LENGTH,), SIGNAL
        config.criterion.warm_up = 0
    return config


def optimum(
    train: Float[np.ndarray, "n d 1"], test: Float[np.ndarray, "m d 1"], count: int
) -> tuple[PPCA, float]:
    """The closed-form model of the training vectors, and its mean ``log p`` of the test vectors."""
    model = probabilistic(fit_principal_components(jnp.asarray(train[..., 0]), count))
    return model, float(model.log_likelihood(jnp.asarray(test[..., 0])).mean())
