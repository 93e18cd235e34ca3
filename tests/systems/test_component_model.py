"""Principal components as a system: one step on the whole set, against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from jaxmedgen.systems import latent
from jaxmedgen.systems.shape.component_model import PLAYER, ComponentModel
from jaxmedgen.train.objectives import LossInputs


@pytest.mark.parametrize("kind", ["pca", "ppca"])
def test_a_step_fits_and_the_abilities_follow(kind):
    image = np.random.default_rng(0).uniform(size=(40, 4, 5, 1)).astype(np.float32)
    image[:, :2] += np.random.default_rng(1).normal(size=(40, 1, 1, 1)).astype(np.float32)
    system = ComponentModel((4, 5, 1), 6, kind, share=0.8)
    batch = {"image": jnp.asarray(image)}

    @jax.jit
    def fit(key):
        empty = system.init(key, batch)
        (update,) = system.objectives()
        outputs = update.run(LossInputs({}, {}, batch, None, key, jnp.int32(0)))
        variables = {PLAYER: {"params": outputs.params[PLAYER]}}
        z = system.encode_levels(variables, batch)["z"]
        noise = system.prior_levels(variables, {"z": jnp.full((2, 6), 9.0)}, batch)
        made = system.decode_levels(variables, noise, batch)
        likelihood = system.log_likelihood(variables, batch) if kind == "ppca" else None
        back = system.reconstruct_batch(variables, batch)
        return empty, outputs, z, noise["z"], made, likelihood, back

    empty, outputs, (mean, log_variance), noise, made, likelihood, back = fit(jax.random.key(0))
    assert jax.tree.structure(empty.players[PLAYER].params) == jax.tree.structure(
        dict(outputs.params[PLAYER])
    )
    flat = image.reshape(40, -1)
    reference = PCA(6).fit(flat)
    shares = np.cumsum(reference.explained_variance_ratio_)
    np.testing.assert_allclose(outputs.metrics["explained_variance"], shares[-1], rtol=1e-4)
    assert outputs.metrics["components"] == 1 + (shares < 0.8).sum()
    np.testing.assert_array_equal(noise, 3)  # kept within three deviations
    assert made.shape == (2, 4, 5, 1) and isinstance(system, latent.CanGenerate)
    if kind == "ppca":
        np.testing.assert_allclose(likelihood.mean(), reference.score(flat), rtol=1e-3)
        assert (np.exp(log_variance) < 1).all()
        return
    expected = reference.transform(flat) / np.sqrt(reference.explained_variance_)
    kept = int(outputs.metrics["components"])
    np.testing.assert_allclose(np.abs(mean[:, :kept]), np.abs(expected[:, :kept]), atol=2e-2)
    assert kept < 6 and not mean[:, kept:].any()
    cut = PCA(kept).fit(flat)
    expected = cut.inverse_transform(cut.transform(flat))
    np.testing.assert_allclose(np.asarray(back).reshape(40, -1), expected, atol=1e-3)
    with pytest.raises(ValueError, match="have no likelihood"):
        system.log_likelihood({}, batch)
