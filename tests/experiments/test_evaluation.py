"""Predictions averaged over mirroring: of logits and of probabilities."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.experiments.evaluation import Predictor

LOGITS = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32) * 3


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Logits of the image's values and of the place, so that mirroring matters."""

    def predict(self, variables, image):
        return jax.nn.softmax(image[..., :1] * jnp.arange(3.0) + LOGITS, -1)


@pytest.mark.parametrize("flips", ["", "logits", "probabilities"])
def test_what_is_averaged_over_mirroring(flips):
    image = np.random.default_rng(1).normal(size=(6, 5, 1)).astype(np.float32)
    own = image * np.arange(3) + LOGITS
    mirrored = image * np.arange(3) + LOGITS[::-1]
    both = [np.asarray(jax.nn.softmax(x, -1)) for x in (own, mirrored)]
    expected = {
        "": both[0],
        "logits": np.asarray(jax.nn.softmax((own + mirrored) / 2, -1)),
        "probabilities": (both[0] + both[1]) / 2,
    }[flips]
    found = Predictor(Fixed(), (6, 5)).probabilities({}, image, flips=flips)
    np.testing.assert_allclose(found, expected, atol=2e-6)
