"""Feature extractors: hashes, files, the U-Net's encoder, names of foreign weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.nets.feature_extractor import (
    ResNet,
    extract,
    load_resnet,
    random_extractor,
    resnet_extractor,
    save_resnet,
    unet_extractor,
)
from jaxmedgen.nets.pretrained import pretrained_extractor, read_weights
from jaxmedgen.nets.unet import UNet


def test_a_saved_extractor_gives_the_same_features(tmp_path):
    net = ResNet(classes=3, features=(4, 8))
    variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    one = resnet_extractor(net, variables, "vendors")
    save_resnet(tmp_path / "net.npz", net, variables, "vendors")
    other = load_resnet(tmp_path / "net.npz")
    assert (other.name, other.identifier) == ("vendors", one.identifier)
    images = np.random.default_rng(0).normal(size=(37, 16, 16, 1)).astype(np.float32)
    features = extract(one.features, images)
    assert features.shape == (37, 8)
    assert np.allclose(features, extract(other.features, images), atol=1e-6)
    assert np.allclose(extract(one.probs, images).sum(1), 1, atol=1e-5)
    # Maps' means are the features; contrast is seen, since nothing normalises it away.
    maps = one.maps(jnp.asarray(images[:2]))
    assert [m.shape[1] for m in maps] == [16, 8]
    assert np.allclose(maps[-1].mean((1, 2)), features[:2], atol=1e-5)
    assert np.abs(extract(one.features, 2 * images) - features).max() > 0.1
    changed = jax.tree.map(lambda x: x + 1e-6, variables)
    assert resnet_extractor(net, changed, "vendors").identifier != one.identifier
    np.savez(tmp_path / "other.npz", kernel=np.ones(2))
    with pytest.raises(ValueError, match=r"other\.npz holds no residual"):
        load_resnet(tmp_path / "other.npz")


def test_random_extractor_is_the_same_every_time_and_takes_volumes():
    one, same, other = random_extractor(3), random_extractor(3), random_extractor(3, seed=1)
    assert one.identifier == same.identifier != other.identifier
    assert one.probs is None and not one.trained
    volume = jnp.ones((1, 8, 8, 8, 1))
    assert jax.eval_shape(one.features, volume).shape == (1, 128)


def test_maps_of_a_segmenter_are_its_encoder():
    net = UNet(dims=2, features=(4, 6), classes=2)
    image = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    variables = jax.jit(net.init)(jax.random.key(0), image)
    found = unet_extractor(net, variables, "segmenter")
    assert [m.shape for m in found.maps(image)] == [(2, 8, 8, 4), (2, 4, 4, 6)]
    assert found.features(image).shape == (2, 12)
    assert found.probs is None


def vgg_weights(rng):
    widths, number, before, found = (4, 4, 6, 6, 6), 0, 3, {}
    for stage, (count, width) in enumerate(zip((2, 2, 3, 3, 3), widths)):
        number += 1 if stage else 0
        for _ in range(count):
            found[f"features.{number}.weight"] = rng.normal(0, 0.2, (width, before, 3, 3))
            found[f"features.{number}.bias"] = rng.normal(0, 0.1, width)
            number, before = number + 2, width
    return {name: array.astype(np.float32) for name, array in found.items()}


def test_alexnet_by_hand(tmp_path):
    """Sizes of the five maps, and one number of the first of them."""
    rng, before, weights = np.random.default_rng(0), 3, {}
    for number, width, side in ((0, 4, 11), (3, 5, 5), (6, 6, 3), (8, 5, 3), (10, 4, 3)):
        weights[f"features.{number}.weight"] = rng.normal(0, 0.2, (width, before, side, side))
        weights[f"features.{number}.bias"] = rng.normal(0, 0.1, width)
        before = width
    np.savez(tmp_path / "alex.npz", **weights)
    found = pretrained_extractor("alexnet", tmp_path / "alex.npz")
    image = rng.uniform(size=(1, 67, 67, 3)).astype(np.float32)
    shown = jnp.asarray(image)
    maps = jax.jit(found.maps)(shown)
    assert [m.shape[1:] for m in maps] == [
        *((16, 16, 4), (7, 7, 5), (3, 3, 6)),
        *((3, 3, 5), (3, 3, 4)),
    ]
    scaled = (image[0] - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    window = np.pad(scaled, ((2, 2), (2, 2), (0, 0)))[8:19, 12:23]  # output pixel (2, 3)
    value = np.einsum("hwc,ochw->o", window, weights["features.0.weight"])
    expected = np.maximum(value + weights["features.0.bias"], 0)
    np.testing.assert_allclose(maps[0][0, 2, 3], expected, atol=1e-4)
    assert jax.eval_shape(found.features, shown).shape == (1, 4)


def test_weights_of_files_and_their_names(tmp_path):
    """The same arrays from both file types; a safetensors header as the format has it."""
    weights = vgg_weights(np.random.default_rng(0))
    np.savez(tmp_path / "vgg.npz", **{f"module.{k}": v for k, v in weights.items()})
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, array in weights.items():
        header[name] = {
            "dtype": "F32",
            "shape": array.shape,
            "data_offsets": [len(body), len(body) + array.nbytes],
        }
        body += array.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "vgg.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)
    one, other = (
        pretrained_extractor("vgg16", tmp_path / f) for f in ("vgg.npz", "vgg.safetensors")
    )
    assert one.identifier == other.identifier and not one.trained
    shapes = jax.eval_shape(one.maps, jnp.zeros((1, 32, 32, 1)))
    assert [s.shape[1:3] for s in shapes] == [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]
    with pytest.raises(ValueError, match="no array"):
        pretrained_extractor("inception_v3", tmp_path / "vgg.npz").features(jnp.zeros((1, 9, 9, 1)))
    with pytest.raises(ValueError, match=r"\.npz or \.safetensors"):
        read_weights(tmp_path / "weights.pth")
    np.savez(tmp_path / "radimagenet.npz", **{"backbone.4.0.conv1.weight": np.ones(3)})
    assert list(read_weights(tmp_path / "radimagenet.npz")) == ["layer1.0.conv1.weight"]
