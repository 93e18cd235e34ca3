"""GenSeg's networks: sizes of the published tables, skips, switched norms, split codes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.nets.genseg_decoder import Decoder, SwitchedNorm, fit_size
from jaxmedgen.nets.genseg_encoder import Encoder, Skip, code_shape
from jaxmedgen.systems.base import build_system

QUICKLY = {"xla_backend_optimization_level": 0}
"""These networks run once: compiling them well would take longer."""


def count(tree):
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


def conv(taps, ci, co):
    return taps**2 * ci * co + co


def published(argument, channels=1):
    names = tuple(f"c{i}" for i in range(channels))
    info = DatasetInfo(("background", "digit"), names, (1.0, 1.0), ())
    return build_system(load_config(f"genseg:gpu,{argument}"), info)


TASKS = {
    "48": ("data=simple", (48, 48, 1), (32, 64, 128, 256, 512), (3, 3)),
    "128": ("data=large", (128, 128, 1), (16, 32, 64, 128, 256, 512), (4, 4)),
    "brats": ("data=hemispheres", (240, 120, 4), (16, 32, 64, 128, 256, 512), (8, 4)),
}


@pytest.mark.parametrize("task", TASKS)
def test_tables_of_the_published_networks(task):
    """Sizes and parameters of the sheet's tables, counted by hand."""
    argument, shape, widths, latent = TASKS[task]
    system = published(argument, shape[-1])
    image = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(system.net.init, jax.random.key(0), image)

    def apply(method, *arguments):
        return jax.eval_shape(
            lambda v, *a: system.net.apply(v, *a, method=method), variables, *arguments
        )

    code, skips = apply("encode", image)
    assert code.shape == (2, *latent, 512)
    assert latent == code_shape(shape[:2], len(widths) - 1)
    assert [s.features.shape[-1] for s in skips] == list(widths[:-1])
    assert [s.features.shape[1] for s in skips] == [
        code_shape(shape[:1], i)[0] for i in range(len(skips))
    ]
    common, unique = apply("parts", code)
    assert (common.shape[-1], unique.shape[-1]) == (384, 128)
    assert apply("remove", code, skips).shape == (2, *shape)
    assert apply("segment", code, skips).shape == (2, *shape[:2], 1)
    encoder = conv(3, shape[-1], widths[0])
    encoder += sum(conv(3, a, b) + conv(1, a, b) for a, b in itertools.pairwise(widths))
    assert count(variables["params"]["encoder"]) == encoder

    decoder = tuple(reversed(widths[:-1]))
    inputs = (384, *(w + 1 for w in decoder[:-1]))
    end = decoder[-1] + 1
    expected = sum(conv(3, a, b) for a, b in zip(inputs, decoder))  # blocks
    expected += sum(conv(1, a, b) for a, b in zip(inputs[1:], decoder[1:]))  # short skips
    expected += sum(conv(1, w, 1) for w in decoder)  # compressed long skips
    expected += conv(3, end, end) + conv(7, end, shape[-1])
    expected += 2 * (sum(inputs[1:]) + 2 * end)  # layer norms
    assert count(variables["params"]["common"]) == expected

    shared = sum(conv(5, a, b) for a, b in zip((512, *inputs[1:]), decoder))
    shared += sum(conv(1, w, 1) for w in decoder)
    shared += conv(5, end, end) + 2 * conv(7, end, shape[-1]) + conv(1, shape[-1], 1)
    residual = variables["params"]["residual"]
    places = sum(inputs[1:]) + 2 * end
    if task == "brats":  # switched layer norms: parameters for each mode
        assert count(residual) == shared + 2 * 2 * places
    else:  # translation's layer norms, and the perceptron of adaptive instance norms
        norms = [v for k, v in residual.items() if k.startswith("norm")]
        assert count(norms) == 2 * places
        flat = 512 * int(np.prod(latent))
        perceptron = flat * 256 + 256 + 2 * (256 * 256 + 256) + 256 * 2 * places + 2 * places
        assert count(residual["scale_bias"]) == perceptron
        assert count(residual) == shared + count(norms) + perceptron
    spectral = variables["spectral"]
    named = {str(path) for path, _ in jax.tree_util.tree_leaves_with_path(spectral["residual"])}
    assert not any("segmentation" in name or "classifier" in name for name in named)
    assert any("'image'" in name for name in named)
    maps = jax.eval_shape(
        lambda key, x: system.discriminators.init_with_output(
            key, x, x, jnp.zeros(2, jnp.int32)
        )[0],
        jax.random.key(0),
        image,
    )  # fmt: skip
    assert len(maps) == 2 and [len(logits) for logits in maps] == [3, 3]


@pytest.mark.parametrize("skips", ["none", "sum", "places"])
def test_long_skips_let_through_what_they_should(skips):
    """In 2D and, with odd sizes, in 3D: the output's size, and what it sees of the encoder."""
    shape = (12, 10) if skips != "sum" else (6, 5, 7)
    image = jax.random.normal(jax.random.key(0), (2, *shape, 1))
    encoder = Encoder((4, 6), pooling=skips == "places", spectral=False)
    decoder = Decoder((4,), long_skips=skips, short_skips=False, spectral=False)

    def both(image, other):
        variables = encoder.init(jax.random.key(1), image)
        code, maps = encoder.apply(variables, image)
        _, changed = encoder.apply(variables, other)
        weights = decoder.init(jax.random.key(2), code, maps)
        return decoder.apply(weights, code, maps), decoder.apply(weights, code, changed)

    other = jax.random.normal(jax.random.key(3), image.shape)
    own, other = jax.jit(both, compiler_options=QUICKLY)(image, other)
    assert own.shape == image.shape
    assert (np.abs(own - other).max() > 1e-4) == (skips != "none")
    assert np.abs(own).max() <= 1


def test_a_switched_norm_has_parameters_a_mode():
    x = jax.random.normal(jax.random.key(0), (3, 5, 4, 2)) * 3 + 1
    params = {
        "scale0": jnp.array([1.0, 2.0]),
        "scale1": jnp.array([3.0, 4.0]),
        "bias0": jnp.array([0.0, 1.0]),
        "bias1": jnp.array([5.0, 6.0]),
    }
    found = SwitchedNorm(2).apply({"params": params}, x, jnp.array([0, 1, 0]))
    for i, mode in enumerate((0, 1, 0)):
        plain = (x[i] - x[i].mean()) / (np.std(x[i], ddof=1) + 1e-5)
        expected = plain * params[f"scale{mode}"] + params[f"bias{mode}"]
        np.testing.assert_allclose(found[i], expected, atol=1e-5)


def test_modes_share_convolutions_and_not_norms():
    """The gradient of either mode's output reaches its own norms and ends, and the shared rest."""
    decoder = Decoder(
        (4,),
        modes=("translation", "segmentation"),
        switch="adaptive",
        long_skips="none",
        spectral=False,
    )
    code = jax.random.normal(jax.random.key(0), (2, 4, 4, 6))
    skips = (Skip(jnp.zeros((2, 8, 8, 4)), None),)

    def run(decoder, code, skips):
        return [decoder(code, skips, mode) for mode in decoder.modes]

    def gradients(key):
        variables = decoder.init(key, code, skips, method=run)

        def total(params, mode):
            made = decoder.apply({**variables, "params": params}, code, skips, mode)
            return jnp.abs(made).sum()

        return [jax.grad(total)(variables["params"], mode) for mode in decoder.modes]

    found = jax.jit(gradients, compiler_options=QUICKLY)(jax.random.key(1))
    translation, segmentation = found
    used = [
        {
            jax.tree_util.keystr(path)
            for path, leaf in jax.tree_util.tree_leaves_with_path(g)
            if np.abs(leaf).max() > 0
        }
        for g in (translation, segmentation)
    ]
    shared = used[0] & used[1]
    assert any("block0" in name for name in shared) and any("last" in name for name in shared)
    assert any("image" in name for name in used[0] - used[1])
    assert any("classifier" in name for name in used[1] - used[0])
    assert any("scale_bias" in name for name in used[1] - used[0])
    assert any("norm0" in name for name in used[0] - used[1])


def test_logits_are_made_in_float32():
    """bfloat16 has eight bits: its logits near 1 lie 1/128 apart."""
    image = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    encoder = Encoder((4, 8), dtype=jnp.bfloat16)
    decoder = Decoder((4,), modes=("segmentation",), spectral=False, dtype=jnp.bfloat16)

    @jax.jit
    def logits(key):
        (code, skips), _ = encoder.init_with_output(key, image)
        return decoder.init_with_output(key, code, skips, "segmentation")[0]

    found = logits(jax.random.key(1))
    assert found.dtype == jnp.float32
    assert jnp.any(found != found.astype(jnp.bfloat16).astype(jnp.float32))


def test_sizes_are_cropped_and_padded_around_the_centre():
    x = jnp.arange(8.0).reshape(1, 8, 1, 1)
    assert fit_size(x, (7, 1))[0, :, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert fit_size(x, (6, 1))[0, :, 0, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert fit_size(x[:, :2], (5, 1))[0, :, 0, 0].tolist() == [0, 0, 1, 0, 0]


def test_a_mode_that_was_not_built_is_refused():
    with pytest.raises(ValueError, match="mode='segmentation'"):
        Decoder((4,)).init(jax.random.key(0), jnp.zeros((1, 2, 2, 3)), (), "segmentation")
