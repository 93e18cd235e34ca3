import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.augment.pairing import draw_partners, own_positions, take_partners
from jaxmedgen.ops.collectives import batch_axis

SCORE = jnp.asarray(np.random.default_rng(0).uniform(size=16), jnp.float32)


def test_partners_form_one_cycle_through_all_samples():
    partner = np.asarray(draw_partners(SCORE))
    at, seen = 0, []
    for _ in range(16):
        at = partner[at]
        seen.append(at)
    assert sorted(seen) == list(range(16)) and seen[-1] == 0


def test_pairs_do_not_depend_on_the_order_in_the_batch():
    order = np.random.default_rng(1).permutation(16)
    before, after = np.asarray(draw_partners(SCORE)), np.asarray(draw_partners(SCORE[order]))
    pairs = {(i, int(before[i])) for i in range(16)}
    assert {(int(order[i]), int(order[after[i]])) for i in range(16)} == pairs


def test_every_pair_has_a_positive_sample_if_there_is_one():
    for count in (0, 1, 3, 16):
        positive = jnp.arange(16) % 16 < count
        partner = np.asarray(draw_partners(SCORE, positive))
        held = np.asarray(positive) | np.asarray(positive)[partner]
        assert held.all() == (count > 0)
        if count == 3:  # the negative ones share the positive ones evenly
            used = np.bincount(partner[3:], minlength=16)[:3]
            assert used.max() - used.min() <= 2 and used.sum() == 13


def test_devices_of_pmap_find_the_same_partners():
    x = jnp.arange(16.0)[:, None]
    positive = jnp.arange(16) % 5 == 0

    def run(score, positive, x):
        with batch_axis("data"):
            partner = draw_partners(score, positive)
            return partner, take_partners(x, partner), own_positions(score.shape[0])

    split = [a.reshape(4, 4, *a.shape[1:]) for a in (SCORE, positive, x)]
    found = jax.pmap(run, axis_name="data", devices=jax.devices()[:4])(*split)
    partner = draw_partners(SCORE, positive)
    np.testing.assert_array_equal(found[0].reshape(-1), partner)
    np.testing.assert_array_equal(found[1].reshape(-1, 1), take_partners(x, partner))
    assert found[2].reshape(-1).tolist() == own_positions(16).tolist() == list(range(16))
