"""Networks that turn images into features for distances between images and sets of images.

An `Extractor` gives feature vectors, feature maps and class probabilities of images, with an
identifier that hashes its weights: scores of different extractors are never compared. None needs a
download: a small residual network trained on the real training images for a declared task, the
encoder of a segmentation U-Net, or a random network of He's initialisation for sanity checks
(metrics that cannot rank blurred images even there are broken). Weights of ImageNet and RadImageNet
networks come from the user's files, see `nets.pretrained`.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.nets.layers import Conv, Norm, NormKind, leaky_relu
from jaxmedgen.nets.unet import ConvBlock, UNet
from jaxmedgen.types import Leaf, Variables

FeatureFunction = Callable[[Float[Array, "b *s c"]], Float[Array, "b d"]]
MapsFunction = Callable[[Float[Array, "b *s c"]], tuple[Float[Array, "b *_ _"], ...]]

_BATCH = 32


class ResNetOutputs(NamedTuple):
    """What `ResNet` gives.

    Attributes:
        logits: ``[b, classes]``.
        features: means of the last stage over space, ``[b, d]``.
        maps: output of every stage, from fine to coarse.
    """

    logits: Leaf
    features: Leaf
    maps: Leaf


class ResNet(nn.Module):
    """A small residual classifier (He et al., CVPR 2016), 2D or 3D after its input.

    Batch norm, not instance norm, which would hide brightness and contrast from the features.

    Attributes:
        classes: number of classes.
        features: channels of each stage; every stage but the first halves the image.
        blocks: residual blocks a stage.
        norm: kind of normalisation.
    """

    classes: int
    features: Sequence[int] = (16, 32, 64, 128)
    blocks: int = 1
    norm: NormKind = "batch"

    @nn.compact
    def __call__(self, x: Float[Array, "b *s c"], train: bool = False) -> ResNetOutputs:
        """Logits, features and maps of images."""
        x = Conv(self.features[0], use_bias=self.norm == "none", name="stem")(x)
        x = leaky_relu(Norm(self.norm, name="stem_norm")(x, train))
        maps = []
        for i, channels in enumerate(self.features):
            for j in range(self.blocks):
                stride = 2 if i and not j else 1
                block = ConvBlock(channels, 2, stride, True, self.norm, name=f"stage_{i}_{j}")
                x = block(x, train)
            maps.append(x)
        pooled = x.mean(tuple(range(1, x.ndim - 1)))
        return ResNetOutputs(nn.Dense(self.classes, name="head")(pooled), pooled, tuple(maps))


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A frozen network as the metrics see it; its functions can be compiled.

    Attributes:
        name: what it is, for reports: provider, task, seed.
        identifier: hash of its weights.
        features: images to feature vectors.
        maps: images to the maps of its layers, from fine to coarse.
        probs: images to class probabilities, or None for a network that is no classifier.
        trained: whether it was trained on images of the domain (a classifier that was not makes
            the inception score meaningless).
    """

    name: str
    identifier: str
    features: FeatureFunction
    maps: MapsFunction
    probs: FeatureFunction | None = None
    trained: bool = True


def resnet_extractor(
    net: ResNet, variables: Variables, name: str, *, trained: bool = True
) -> Extractor:
    """A residual classifier, trained or not, as an extractor."""

    def apply(image: Float[Array, "b *s c"]) -> ResNetOutputs:
        return net.apply(variables, image)

    return Extractor(
        name=name,
        identifier=weights_hash(variables),
        features=lambda image: apply(image).features,
        maps=lambda image: apply(image).maps,
        probs=(lambda image: jax.nn.softmax(apply(image).logits)) if trained else None,
        trained=trained,
    )


def random_extractor(dims: int, channels: int = 1, seed: int = 0) -> Extractor:
    """An untrained residual network of He's initialisation: a baseline for sanity checks.

    Args:
        dims: axes of space, 2 or 3.
        channels: of the images.
        seed: of the weights.
    """
    net, rng = ResNet(classes=2), np.random.default_rng(seed)
    example = jnp.zeros((1, *(16,) * dims, channels))
    shapes = jax.eval_shape(net.init, jax.random.key(0), example)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = path[-1].key
        if name == "kernel":  # on the host: compiling an initialisation takes longer than using it
            deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return jnp.asarray(rng.normal(0, deviation, leaf.shape), jnp.float32)
        return jnp.full(leaf.shape, 1.0 if name in ("scale", "var") else 0.0)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    return resnet_extractor(net, variables, f"random He network, seed {seed}", trained=False)


def unet_extractor(net: UNet, variables: Variables, name: str) -> Extractor:
    """The encoder of a segmentation network; features are the means of its coarsest level."""

    def maps(image: Float[Array, "b *s c"]) -> tuple[Float[Array, "b *_ _"], ...]:
        _, state = net.apply(
            variables,
            image,
            capture_intermediates=lambda module, _: (module.name or "").startswith("encoder_"),
            mutable="intermediates",
        )
        found = state["intermediates"]
        return tuple(found[f"encoder_{i}"]["__call__"][0] for i in range(len(net.features)))

    def features(image: Float[Array, "b *s c"]) -> Float[Array, "b d"]:
        coarsest = maps(image)[-1]
        # Instance norm gives every channel the same mean before the rectifier; deviations differ.
        return jnp.concatenate(
            [
                coarsest.mean(tuple(range(1, coarsest.ndim - 1))),
                coarsest.std(tuple(range(1, coarsest.ndim - 1))),
            ],
            -1,
        )

    return Extractor(name, weights_hash(variables), features, maps)


def extract(
    function: Callable[[Float[Array, "b *s c"]], Float[Array, "b d"]],
    images: Float[np.ndarray, "n *s c"],
) -> Float[np.ndarray, "n d"]:
    """Features or probabilities of many images, a batch at a time.

    Args:
        function: ``Extractor.features`` or ``Extractor.probs``.
        images: all images.
    """
    compiled, found = jax.jit(function), []
    for start in range(0, len(images), _BATCH):
        part = images[start : start + _BATCH]
        # One compiled size: the last batch is filled up.
        filled = np.resize(part, (_BATCH, *part.shape[1:]))
        found.append(np.asarray(compiled(jnp.asarray(filled, jnp.float32)))[: len(part)])
    return np.concatenate(found)


def weights_hash(variables: Any) -> str:
    """Twelve hexadecimal digits that stand for all weights, their names and shapes."""
    digest = hashlib.sha256()
    for name, value in sorted(flax.traverse_util.flatten_dict(dict(variables), sep="/").items()):
        array = np.ascontiguousarray(value)
        digest.update(f"{name}:{array.dtype}:{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:12]


def save_resnet(path: pathlib.Path, net: ResNet, variables: Variables, name: str) -> None:
    """Writes a residual classifier as ``.npz``: arrays by path, and how to build it.

    Raises:
        ValueError: the file's name does not end in ``.npz``.
    """
    if path.suffix != ".npz":
        raise ValueError(f"{path}: the name of a weights file must end in .npz")
    settings = {
        "kind": "resnet",
        "name": name,
        "classes": net.classes,
        "features": list(net.features),
        "blocks": net.blocks,
        "norm": net.norm,
    }
    flat = flax.traverse_util.flatten_dict(dict(variables), sep="/")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, __settings__=json.dumps(settings), **{k: np.asarray(v) for k, v in flat.items()})


def load_resnet(path: pathlib.Path) -> Extractor:
    """Reads what `save_resnet` wrote.

    Raises:
        ValueError: the file is something else.
    """
    with np.load(path, allow_pickle=False) as stored:
        if "__settings__" not in stored:
            raise ValueError(
                f"{path} holds no residual classifier of this library: name its architecture, see "
                "nets.pretrained"
            )
        settings = json.loads(str(stored["__settings__"]))
        flat = {name: jnp.asarray(stored[name]) for name in stored.files if name != "__settings__"}
    net = ResNet(
        settings["classes"], tuple(settings["features"]), settings["blocks"], settings["norm"]
    )
    variables = flax.traverse_util.unflatten_dict(flat, sep="/")
    return resnet_extractor(net, variables, settings["name"])
