"""Deformed training subjects: whose perspective they are shown in."""

import json

import jax.numpy as jnp
import nibabel as nib
import numpy as np
import optax

from jaxmedgen.data.build import Sources
from jaxmedgen.data.sources import ArraySource, DatasetInfo, subset
from jaxmedgen.experiments.samples import write_deformed
from jaxmedgen.nets.vitae import Posterior, Vitae
from jaxmedgen.ops.transformers import DiffeomorphicAffine
from jaxmedgen.systems.deformation.it_vae import PLAYER, ItVae
from jaxmedgen.systems.deformation.vitae_bound import Criterion
from jaxmedgen.train.objectives import PlayerSettings

SHAPE = (24, 24)
PLACES = np.array([(x, y) for x in (6, 10, 14, 18) for y in (7, 12, 17)])
"""Of the blob that each of twelve subjects is."""


class Shifts(Vitae):
    """In place of the networks: z is where the blob is, read off the image, and moves it there."""

    def apply(self, variables, x, *, method):
        if method == "encode_perspective":
            weight = x[..., 0] / x.sum((1, 2, 3))[:, None, None]
            grid = jnp.stack(jnp.meshgrid(*map(jnp.arange, SHAPE), indexing="ij"), -1)
            place = (weight[..., None] * grid).sum((1, 2))
            return Posterior(11.5 - place, jnp.full_like(place, -30.0))
        assert method == "decode_perspective"
        zero, step = jnp.zeros_like(x[:, :1]), 2 / (SHAPE[0] - 1)
        return jnp.concatenate([zero, zero, step * x[:, :1], zero, zero, step * x[:, 1:]], -1)


def blob(place):
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    image = np.exp(-((grid - place) ** 2).sum(-1) / 4).astype(np.float32)
    return {"image": image[..., None], "label": (image > 0.5).astype(np.int32)}


def test_nobody_is_shown_in_the_own_perspective_and_all_lend_theirs(tmp_path):
    """Twelve subjects in groups of eight: the second group has some of them twice."""
    names = tuple(f"s{k}" for k in range(len(PLACES)))
    info = DatasetInfo(("background", "blob"), ("t1",), (1.0, 1.0), names)
    train = ArraySource([blob(place) for place in PLACES], info)
    net = Shifts(SHAPE, 1, DiffeomorphicAffine(), perspective=2, appearance=2)
    system = ItVae(net, PlayerSettings(optax.identity()), Criterion())
    nobody = subset(train, ())
    write_deformed(
        Sources(train, nobody, nobody, info), system, {PLAYER: {}}, tmp_path, count=32, seed=0
    )
    written = json.loads((tmp_path / "manifest.json").read_text())
    own = [names.index(one["subject"]) for one in written["images"]]
    assert any(len(set(own[k : k + 8])) < 8 for k in range(0, 32, 8))
    lent = []
    for number in range(32):
        file = nib.load(tmp_path / "images" / f"sample_{number:05d}.nii.gz")
        image = np.squeeze(file.get_fdata())
        place = np.unravel_index(np.argmax(image), SHAPE)
        near = np.abs(PLACES - place).sum(-1)
        assert near.min() <= 1
        lent.append(int(np.argmin(near)))
    assert all(a != b for a, b in zip(own, lent))
    assert any(set(lent[k : k + 8]) - set(own[k : k + 8]) for k in range(0, 32, 8))
