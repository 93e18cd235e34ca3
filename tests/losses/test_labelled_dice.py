"""The Dice loss of partly labelled batches: by hand, without masks, over devices."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.losses.labelled_dice import labelled_dice_loss
from jaxmedgen.ops.collectives import batch_axis


def example(seed=0):
    rng = np.random.default_rng(seed)
    p = rng.uniform(size=(8, 4, 4, 2)).astype(np.float32)
    y = (rng.uniform(size=p.shape) > 0.6).astype(np.float32)
    return p, y, np.array([1, 0, 0, 1, 0, 0, 0, 1], np.float32)


def test_sums_run_over_all_labelled_pixels_jointly():
    p, y, known = example()
    chosen = known > 0
    expected = [
        -(2 * (p * y)[chosen][..., k].sum() + 1)
        / (p[chosen][..., k].sum() + y[chosen][..., k].sum() + 1)
        for k in range(2)
    ]
    found = labelled_dice_loss(jnp.asarray(p), jnp.asarray(y), jnp.asarray(known))
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-6)
    each = [
        float(labelled_dice_loss(jnp.asarray(p[i : i + 1]), jnp.asarray(y[i : i + 1]), jnp.ones(1)))
        for i in np.flatnonzero(chosen)
    ]
    assert abs(np.mean(each) - float(found)) > 1e-4  # not the mean of the images' Dice


def test_a_batch_without_masks_has_no_loss_and_no_gradient():
    p, y, _ = example()
    value, gradient = jax.jit(jax.value_and_grad(labelled_dice_loss))(p, y, jnp.zeros(8))
    assert value == 0
    assert not np.asarray(gradient).any()


def test_devices_sum_numerators_and_denominators():
    p, y, known = example()
    parts = [jnp.asarray(a).reshape(4, 2, *a.shape[1:]) for a in (p, y, known)]

    def loss(*arrays):
        with batch_axis("devices"):
            return labelled_dice_loss(*arrays)

    found = jax.pmap(loss, axis_name="devices")(*parts)
    whole = labelled_dice_loss(*map(jnp.asarray, (p, y, known)))
    np.testing.assert_allclose(found, np.full(4, whole), rtol=1e-6)
