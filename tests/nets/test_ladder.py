"""Ladder VAE: merge, prior path and truncation against formulas written out; the shape trunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.nets.ladder import LadderVAE
from jaxmedgen.nets.shape_trunk import depth_to_space, linear_interpolation
from jaxmedgen.ops.conv import conv_transpose

TINY = {"shape": (8, 8, 8), "latents": (4, 3, 2), "hidden": (8, 6, 5), "top": 4,
        "features": (2, 4)}  # fmt: skip


def test_levels():
    net = LadderVAE(**TINY)
    image = jax.random.uniform(jax.random.key(0), (4, 8, 8, 8, 2)).round()
    noise = {f"z{k}": jax.random.normal(jax.random.key(k), (4, size))
             for k, size in enumerate(TINY["latents"])}  # fmt: skip

    @jax.jit
    def look(key):
        variables = net.init(key, image, noise, True)
        # Heads start at 0 log-variance: give every level a spread of its own.
        params = jax.tree.map(lambda x: x + 0.1 * jnp.sin(jnp.arange(x.size)).reshape(x.shape),
                              variables["params"])  # fmt: skip
        variables = {**variables, "params": params}
        found = net.apply(variables, image, noise, False)
        below = net.apply(variables, noise, {"z2": found.latents["z2"]}, method="generate")
        kept = net.apply(variables, noise, dict(found.latents), method="generate")
        logits = net.apply(variables, found.latents["z0"], method="decode")
        features = net.apply(variables, image, method=lambda m, x: m.encoder(x, False))
        first = net.apply(variables, features, method=lambda m, x: m.upward[0](x, False))
        own = net.apply(variables, first, method=lambda m, x: m.heads[0](x))
        compatible = net.clone(merge="compat_ref").apply(variables, image, noise, False)
        return found, compatible, below, kept, logits, own

    found, compatible, below, kept, logits, own = look(jax.random.key(7))
    assert set(found.posteriors) == set(net.levels) and list(net.levels) == ["z2", "z1", "z0"]
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, kept, dict(found.latents))
    for name in ("z1", "z0"):
        mean, log_variance = found.posteriors[name]
        expected = mean + np.exp(0.5 * log_variance) * noise[name]
        np.testing.assert_allclose(found.latents[name], expected, atol=1e-5)
    prior = found.priors["z1"]
    np.testing.assert_allclose(
        below["z1"], prior[0] + np.exp(0.5 * prior[1]) * noise["z1"], atol=1e-5
    )
    assert float(np.abs(found.priors["z2"][0]).max()) == 0
    prior = [np.asarray(p, np.float64) for p in found.priors["z0"]]
    own = [np.asarray(p, np.float64) for p in own]
    weights = [np.exp(-own[1]), np.exp(-prior[1])]
    variance = 1 / (weights[0] + weights[1])
    mean = variance * (own[0] * weights[0] + prior[0] * weights[1])
    np.testing.assert_allclose(found.posteriors["z0"][0], mean, atol=1e-5)
    np.testing.assert_allclose(found.posteriors["z0"][1], np.log(variance), atol=1e-5)
    # The authors' program draws with the merged variance in place of its root.
    for level, size in enumerate(TINY["latents"][:2]):
        name = f"z{level}"
        mean, log_variance = compatible.posteriors[name]
        assert mean.shape == (4, size)
        drawn = compatible.latents[name] - mean
        np.testing.assert_allclose(drawn, np.exp(0.5 * log_variance) * noise[name], atol=1e-5)
    mean, log_variance = compatible.posteriors["z1"]
    np.testing.assert_allclose(mean, found.posteriors["z1"][0], atol=1e-5)
    np.testing.assert_allclose(
        np.exp(0.5 * log_variance), np.exp(found.posteriors["z1"][1]), rtol=1e-4
    )


def test_a_plain_hierarchy_reads_both_directions():
    noise = {f"z{k}": jnp.zeros((1, size)) for k, size in enumerate(TINY["latents"])}
    image = jnp.zeros((1, 8, 8, 8, 2))
    inputs = {}
    for merge in ("precision", "concatenate"):
        net = LadderVAE(**TINY, merge=merge)
        shapes = jax.eval_shape(lambda key, net=net: net.init(key, image, noise, True),
                                jax.random.key(0))  # fmt: skip
        heads = (shapes["params"][f"heads_{k}"]["mean"]["kernel"].shape[0] for k in range(3))
        inputs[merge] = tuple(heads)
    assert inputs == {"precision": (8, 6, 4), "concatenate": (16, 12, 4)}


def test_transposed_kernels_start_as_linear_interpolation():
    kernel = linear_interpolation(jax.random.key(0), (3, 3, 2, 3))
    x = jnp.arange(6.0).reshape(1, 6, 1, 1) * jnp.ones((1, 6, 6, 2))
    fine = np.asarray(conv_transpose(x, kernel, stride=2, padding="SAME"))[0, :, 5]
    steps = np.diff(fine[1:-1, 0])
    np.testing.assert_allclose(steps, 0.5, atol=1e-6)
    assert np.abs(fine[..., 2]).max() == 0


def test_depth_to_space_puts_channels_where_their_voxel_is():
    x = jnp.arange(2 * 3 * 2 * 8, dtype=jnp.float32).reshape(1, 2, 3, 2, 8)
    fine = depth_to_space(x)
    assert fine.shape == (1, 4, 6, 4, 1)
    for corner in np.ndindex(2, 2, 2):
        number = np.ravel_multi_index(corner, (2, 2, 2))
        part = fine[0, corner[0] :: 2, corner[1] :: 2, corner[2] :: 2, 0]
        np.testing.assert_array_equal(part, x[0, ..., number])


def test_shapes_that_do_not_halve_are_refused():
    net = LadderVAE(**{**TINY, "shape": (6, 8, 8)})
    noise = {f"z{k}": jnp.zeros((1, size)) for k, size in enumerate(TINY["latents"])}
    with pytest.raises(ValueError, match="multiple of 4"):
        jax.eval_shape(lambda key: net.init(key, jnp.zeros((1, 6, 8, 8, 2)), noise, True),
                       jax.random.key(0))  # fmt: skip
