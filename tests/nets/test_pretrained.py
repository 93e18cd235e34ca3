"""The intensities that weights of other data want."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.nets.pretrained import pretrained_extractor


def resnet_weights(rng, width=3):
    """One basic block a layer."""
    found = {"conv1.weight": rng.normal(0, 0.1, (width, 3, 7, 7))}
    norms = ["bn1"]
    for layer in range(1, 5):
        for k in (1, 2):
            found[f"layer{layer}.0.conv{k}.weight"] = rng.normal(0, 0.3, (width, width, 3, 3))
            norms.append(f"layer{layer}.0.bn{k}")
        if layer > 1:
            name = f"layer{layer}.0.downsample"
            found[f"{name}.0.weight"] = rng.normal(0, 0.5, (width, width, 1, 1))
            norms.append(f"{name}.1")
    for name in norms:
        found[f"{name}.weight"], found[f"{name}.running_var"] = np.ones(width), np.ones(width)
        found[f"{name}.bias"] = rng.normal(0, 0.1, width)
        found[f"{name}.running_mean"] = np.zeros(width)
    return {name: array.astype(np.float32) for name, array in found.items()}


def test_radimagenet_wants_other_intensities_than_imagenet(tmp_path):
    """Its demo shows grey values g of 0 to 255 as 2 (g - 127.5) / 255."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "net.npz", **resnet_weights(rng))
    ours, theirs = (
        pretrained_extractor(name, tmp_path / "net.npz")
        for name in ("radimagenet_resnet50", "resnet50")
    )
    image = rng.uniform(size=(2, 32, 32, 3)).astype(np.float32)
    wanted = 2 * (255 * image - 127.5) / 255
    # What ImageNet's network, which takes its mean away itself, must be shown to see the same.
    same = wanted * np.float32([0.229, 0.224, 0.225]) + np.float32([0.485, 0.456, 0.406])
    found = jax.jit(ours.features)(jnp.asarray(image))
    assert found.shape == (2, 3) and np.std(found) > 0.01
    shown = [jax.jit(theirs.features)(jnp.asarray(x)) for x in (same, image)]
    np.testing.assert_allclose(found, shown[0], rtol=1e-4, atol=1e-4)
    assert np.abs(found - shown[1]).max() > 0.01
