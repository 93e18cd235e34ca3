"""Claims on manifold sampling: every seed must hold, means decide the size."""

from jaxmedgen.experiments.classification import Scores
from jaxmedgen.experiments.reproductions import rhvae
from jaxmedgen.experiments.reproductions.manifold import junctions


def scores(vae, prior, manifold, raw_vae, raw_manifold):
    sets = (*junctions.SETS, *(f"raw + {name}" for name in junctions.SETS))
    values = (vae, prior, manifold, raw_vae, 0.0, raw_manifold)
    return {
        name: Scores((value - 1.0, value + 1.0), (value + 0.0,) * 2)
        for name, value in zip(sets, values)
    }


def test_claims_are_paired_by_seed():
    found = [scores(75, 74, 79, 78, 80), scores(77, 80, 79, 79, 79)]
    claims = {claim.name: claim for claim in rhvae.accuracy_claims(found)}
    measured = [(claim.measured, claim.holds) for claim in claims.values()]
    assert measured == [(2, True), (3, True), (-1, False), (2, True), (1, True)]
    table = rhvae.accuracy_table([found[0] | {"HVAE, prior": Scores((70.0,), (70.0,))}, found[1]])
    assert "| HVAE, prior | 70.0 | - | 70.0 |" in table
    looks = {("rhvae", 0): {"median eigenvalue": 0.4}, ("exact", 0): {"median eigenvalue": 0.01}}
    reference, exact = rhvae.geometry_claims(looks)
    assert not reference.holds and abs(reference.measured - 2.5) < 1e-9 and exact.holds
