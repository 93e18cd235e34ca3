"""Pictures of conditional draws: one latent vector is kept, the other one varies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.experiments import latent_pictures
from jaxmedgen.systems.base import build_system

SMALL = {"data.train": "4", "data.test": "1", "model.features": "(8, 8)"}


def model(arm):
    config = load_config(f"it_vae:cpu,arm={arm}", SMALL)
    sources = build_sources(config.data)
    system = build_system(config, sources.info)
    image = jnp.stack([jnp.asarray(sources.train[i]["image"]) for i in range(2)])
    state = jax.jit(system.init)(jax.random.key(0), {"image": image})
    return system, {"vae": state.players["vae"].evaluation_variables()}, image


def test_each_row_varies_one_of_the_latent_vectors(monkeypatch):
    system, variables, image = model("c-vitae")
    posteriors = jax.jit(system.encode)(variables, image)
    drawn = []

    def generate(system):
        def run(variables, perspective, appearance):
            drawn.append((np.asarray(perspective), np.asarray(appearance)))
            return jnp.zeros((len(perspective), 28, 28, 1))

        return run

    monkeypatch.setattr(latent_pictures, "_generate", generate)
    picture = latent_pictures.conditional_draws(system, variables, image, count=300, scale=1)
    assert picture.shape[0] >= 4 * 28 and picture.shape[1] >= 301 * 28
    assert len(drawn) == 4
    for row, z in enumerate(drawn):
        own = 1 - row % 2
        posterior, number = posteriors[own], row // 2
        np.testing.assert_allclose(z[own].mean(0), posterior.mean[number], atol=0.25)
        spread = np.exp(0.5 * np.asarray(posterior.log_variance[number]))
        np.testing.assert_allclose(z[own].std(0), spread, rtol=0.2)
        np.testing.assert_allclose(z[1 - own].std(0), 1, rtol=0.2)
        np.testing.assert_allclose(z[1 - own].mean(0), 0, atol=0.25)


def test_a_plain_model_has_no_conditional_draws():
    system, variables, image = model("vae")
    with pytest.raises(ValueError, match="choose c-vitae"):
        latent_pictures.conditional_draws(system, variables, image)
