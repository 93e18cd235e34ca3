"""No posterior sample of PADDIT folds space, however little the images say."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.ops.field_measures import folding_count
from jaxmedgen.ops.hmc import sample_chains, tune_start
from jaxmedgen.ops.velocity_flows import velocity_flow
from jaxmedgen.systems.deformation import paddit_em
from jaxmedgen.systems.deformation.paddit_em import Template, posterior_energy


def _folded(monkeypatch, wall):
    """Folded voxels of draws of a prior so wide that two steps of Exp often fold; the end's too."""
    monkeypatch.setattr(paddit_em, "_WALL", wall)
    flow = velocity_flow((12, 12), parametrisation="band", band=3, alpha=1.0, squarings=1)
    hyper = flow.prior.start(4.0)
    chains = 3
    image = jnp.zeros((chains, 12, 12, 1))
    template = Template(image[0], jnp.float32(1.0))
    start = jnp.zeros((chains, *flow.prior.coordinates))
    start = start.at[2].set(0.7 * jax.random.normal(jax.random.key(2), start.shape[1:]))  # folded

    @jax.jit
    def draw(keys):
        _, draws, course = sample_chains(
            keys,
            start,
            tune_start(0.2, (chains,)),
            lambda xi: posterior_energy(xi, image, template, flow, hyper),
            draws=30,
            thinning=2,
            steps=4,
            target=0.75,
            adapt=True,
        )
        maps = [flow.displacement(x.reshape(-1, *x.shape[2:]), hyper) for x in (draws, start[None])]
        return folding_count(maps[0]).reshape(30, chains), folding_count(maps[1]), course

    folded, first, course = draw(jax.random.split(jax.random.key(0), chains))
    assert first[2] > 0 and not first[:2].any()
    assert np.isfinite(course["energy"]).all()
    return np.asarray(folded)


def test_samples_never_fold_and_a_chain_that_starts_folded_finds_its_way_out(monkeypatch):
    assert (_folded(monkeypatch, 0.0) > 0).mean() > 0.1
    folded = _folded(monkeypatch, 1e6)
    assert not folded[:, :2].any()
    assert not folded[-10:].any()
