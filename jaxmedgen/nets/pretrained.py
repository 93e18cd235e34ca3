"""Networks trained on photographs or radiological images, with weights from the user's files.

``inception_v3``: FID's network (Szegedy et al., CVPR 2016, as ported from TensorFlow: average pools
that do not count the padding, a maximum pool in the last block), 2048 features. ``resnet50`` (and
``resnet18``): He et al., CVPR 2016. ``radimagenet_resnet50``: the same for RadImageNet's weights,
which want [-1, 1] (BMEII-AI/RadImageNet, acl_pytorch_train). ``vgg16``: Simonyan & Zisserman, ICLR
2015, and ``alexnet``: Krizhevsky, arXiv 1404.5997; their five maps are LPIPS'.

A file is ``.npz`` or ``.safetensors`` with the arrays of a PyTorch state dictionary under its
names. Pickles are not read; this makes a file of one::

    weights = torch.load("weights.pth", map_location="cpu")
    numpy.savez("weights.npz", **{name: array.numpy() for name, array in weights.items()})

Images must lie in [0, 1], whatever a network wants; grey ones are copied to three channels, all are
enlarged as in training. Both move distances: compare scores of one extractor and image size only.
"""

import json
import pathlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.nets.feature_extractor import Extractor, weights_hash
from jaxmedgen.ops.conv import conv as convolution
from jaxmedgen.ops.resize import resize

Weights = Mapping[str, Array]
Moments = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation by channel
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RADIMAGENET = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_LIMIT = 2**31  # bytes of a safetensors header: far more than any has

Features = tuple[Float[Array, "b d"], tuple[Float[Array, "b *_ _"], ...]]


def pretrained_extractor(architecture: str, path: pathlib.Path) -> Extractor:
    """An extractor of a known architecture with the weights of a file.

    Args:
        architecture: one of `ARCHITECTURES`.
        path: ``.npz`` or ``.safetensors``.

    Raises:
        ValueError: an unknown architecture or file type, or weights that it lacks.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture '{architecture}': {', '.join(ARCHITECTURES)}")
    weights = {name: jnp.asarray(array) for name, array in read_weights(path).items()}
    network = ARCHITECTURES[architecture]

    def run(image: Float[Array, "b h w c"]) -> Features:
        try:
            return network(weights, image)
        except KeyError as error:
            raise ValueError(f"{path} has no array {error}: it is no {architecture}") from None

    return Extractor(
        name=f"{architecture} of {path.name}",
        identifier=weights_hash(weights),
        features=lambda image: run(image)[0],
        maps=lambda image: run(image)[1],
        trained=False,
    )


def read_weights(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Arrays by name; names without the prefixes that wrappers add.

    Raises:
        ValueError: another file type, or a broken file.
    """
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
    elif path.suffix == ".safetensors":
        found = _read_safetensors(path)
    else:
        raise ValueError(f"{path}: weights are read from .npz or .safetensors, see nets.pretrained")
    return {_plain_name(name): np.asarray(array) for name, array in found.items()}


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The format: length of the header (8 bytes), header as JSON, arrays one after the other."""
    types = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    if not 0 < size <= min(len(data) - 8, _LIMIT):
        raise ValueError(f"{path} is no safetensors file: its header has a length of {size}")
    header, body, found = json.loads(data[8 : 8 + size]), data[8 + size :], {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        (start, end), kind = entry["data_offsets"], types.get(entry["dtype"])
        if kind is None or not 0 <= start <= end <= len(body):
            raise ValueError(f"{path}: array {name} of type {entry['dtype']} cannot be read")
        found[name] = np.frombuffer(body[start:end], kind).reshape(entry["shape"])
    return found


def _plain_name(name: str) -> str:
    for prefix in ("module.", "model.", "backbone."):
        name = name.removeprefix(prefix)
    first, _, rest = name.partition(".")
    # RadImageNet's files number the children of a ResNet.
    children = {"0": "conv1", "1": "bn1"} | {str(3 + k): f"layer{k}" for k in (1, 2, 3, 4)}
    return f"{children[first]}.{rest}" if first in children else name


def inception_v3(weights: Weights, image: Float[Array, "b h w c"]) -> Features:
    """FID's Inception: 2048 features; maps after both stem pools, the fifth and sixth blocks."""
    x = _resize_from_corner(_three_channels(image) * 255, 299)
    x = (x - 128) / 128

    def conv(x, name, stride=1, pad=(0, 0)):
        return _conv_norm(weights, x, f"{name}.conv", f"{name}.bn", stride, pad, 1e-3)

    def chain(x, block, *layers):
        for name, pad in layers:
            x = conv(x, f"{block}.{name}", pad=pad)
        return x

    def pooled(x, block, pool):
        return conv(pool(x), f"{block}.branch_pool")

    x = conv(x, "Conv2d_1a_3x3", 2)
    x = conv(x, "Conv2d_2a_3x3")
    x = conv(x, "Conv2d_2b_3x3", pad=(1, 1))
    maps = [x := _max_pool(x, 2, 0)]
    x = conv(conv(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3")
    maps.append(x := _max_pool(x, 2, 0))
    one, three, five, wide, tall = (0, 0), (1, 1), (2, 2), (0, 3), (3, 0)
    for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = _join(
            conv(x, f"{block}.branch1x1"),
            chain(x, block, ("branch5x5_1", one), ("branch5x5_2", five)),
            chain(x, block, *zip((f"branch3x3dbl_{k}" for k in (1, 2, 3)), (one, three, three))),
            pooled(x, block, _average_pool),
        )
    maps.append(x)
    doubled = chain(x, "Mixed_6a", ("branch3x3dbl_1", one), ("branch3x3dbl_2", three))
    x = _join(
        conv(x, "Mixed_6a.branch3x3", 2),
        conv(doubled, "Mixed_6a.branch3x3dbl_3", 2),
        _max_pool(x, 2, 0),
    )
    for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        pads = (one, tall, wide, tall, wide)
        x = _join(
            conv(x, f"{block}.branch1x1"),
            chain(x, block, *zip((f"branch7x7_{k}" for k in (1, 2, 3)), (one, wide, tall))),
            chain(x, block, *zip((f"branch7x7dbl_{k}" for k in range(1, 6)), pads)),
            pooled(x, block, _average_pool),
        )
    maps.append(x)
    sevens = chain(x, "Mixed_7a", *zip((f"branch7x7x3_{k}" for k in (1, 2, 3)), (one, wide, tall)))
    x = _join(
        conv(conv(x, "Mixed_7a.branch3x3_1"), "Mixed_7a.branch3x3_2", 2),
        conv(sevens, "Mixed_7a.branch7x7x3_4", 2),
        _max_pool(x, 2, 0),
    )
    for block, pool in (("Mixed_7b", _average_pool), ("Mixed_7c", lambda x: _max_pool(x, 1, 1))):
        threes = conv(x, f"{block}.branch3x3_1")
        doubled = chain(x, block, ("branch3x3dbl_1", one), ("branch3x3dbl_2", three))
        x = _join(
            conv(x, f"{block}.branch1x1"),
            conv(threes, f"{block}.branch3x3_2a", pad=(0, 1)),
            conv(threes, f"{block}.branch3x3_2b", pad=(1, 0)),
            conv(doubled, f"{block}.branch3x3dbl_3a", pad=(0, 1)),
            conv(doubled, f"{block}.branch3x3dbl_3b", pad=(1, 0)),
            pooled(x, block, pool),
        )
    return x.mean((1, 2)), tuple(maps)


def resnet(
    weights: Weights, image: Float[Array, "b h w c"], moments: Moments = _IMAGENET
) -> Features:
    """ResNet of basic (18, 34) or bottleneck (50 and more) blocks, as the weights have them."""
    x = resize(_normalized(image, moments), (224, 224))
    x = _conv_norm(weights, x, "conv1", "bn1", 2, (3, 3), 1e-5)
    x, maps = _max_pool(x, 2, 1), []
    bottleneck = "layer1.0.conv3.weight" in weights
    for layer in range(1, 5):
        block = 0
        while f"layer{layer}.{block}.conv1.weight" in weights or not block:
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and not block else 1
            strides = (1, stride, 1) if bottleneck else (stride, 1)
            y = x
            for k, step in enumerate(strides, start=1):
                size = weights[f"{name}.conv{k}.weight"].shape[-1] // 2
                args = (f"{name}.conv{k}", f"{name}.bn{k}", step, (size, size), 1e-5)
                y = _conv_norm(weights, y, *args, rectify=k < len(strides))
            if f"{name}.downsample.0.weight" in weights:
                args = (f"{name}.downsample.0", f"{name}.downsample.1", stride, (0, 0), 1e-5)
                x = _conv_norm(weights, x, *args, rectify=False)
            x, block = jax.nn.relu(x + y), block + 1
        maps.append(x)
    return x.mean((1, 2)), tuple(maps)


def vgg16(weights: Weights, image: Float[Array, "b h w c"]) -> Features:
    """VGG-16's convolutions; maps relu1_2, 2_2, 3_3, 4_3, 5_3; features are the last's means."""
    x, maps, number = _normalized(image), [], 0
    for stage, count in enumerate((2, 2, 3, 3, 3)):
        if stage:
            x, number = _max_pool(x, 2, 0, window=2), number + 1
        for _ in range(count):
            name = f"features.{number}"
            x = _conv(x, weights[f"{name}.weight"], 1, (1, 1)) + weights[f"{name}.bias"]
            x, number = jax.nn.relu(x), number + 2
        maps.append(x)
    return x.mean((1, 2)), tuple(maps)


_ALEXNET = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))
"""Number, stride and padding of AlexNet's convolutions; pools of three come before 3 and 6."""


def alexnet(weights: Weights, image: Float[Array, "b h w c"]) -> Features:
    """AlexNet's five convolutions, rectified, as maps; features are the last's means."""
    x, maps = _normalized(image), []
    for number, stride, pad in _ALEXNET:
        x = _max_pool(x, 2, 0) if number in (3, 6) else x
        name = f"features.{number}"
        x = _conv(x, weights[f"{name}.weight"], stride, (pad, pad)) + weights[f"{name}.bias"]
        maps.append(x := jax.nn.relu(x))
    return x.mean((1, 2)), tuple(maps)


ARCHITECTURES: Mapping[str, Callable[[Weights, Float[Array, "b h w c"]], Features]] = {
    "inception_v3": inception_v3,
    "resnet18": resnet,
    "resnet50": resnet,
    "radimagenet_resnet50": lambda weights, image: resnet(weights, image, _RADIMAGENET),
    "vgg16": vgg16,
    "alexnet": alexnet,
}


def _conv(x, kernel, stride, pad):
    """Convolution with PyTorch's kernels ``[co, ci, h, w]`` and its padding on both sides."""
    x = jnp.pad(x, ((0, 0), *[(p, p) for p in pad], (0, 0)))
    kernel = jnp.transpose(jnp.asarray(kernel), (2, 3, 1, 0))
    return convolution(x, kernel, stride=stride, padding="VALID")


def _conv_norm(weights, x, conv, norm, stride, pad, epsilon, *, rectify=True):
    x = _conv(x, weights[f"{conv}.weight"], stride, pad)
    scale = weights[f"{norm}.weight"] / jnp.sqrt(weights[f"{norm}.running_var"] + epsilon)
    x = (x - weights[f"{norm}.running_mean"]) * scale + weights[f"{norm}.bias"]
    return jax.nn.relu(x) if rectify else x


def _max_pool(x, stride, pad, window=3):
    pads = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    sizes, steps = (1, window, window, 1), (1, stride, stride, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, sizes, steps, pads)


def _average_pool(x):
    """Mean over 3 x 3 of the pixels there are."""
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))

    def total(values):
        return jax.lax.reduce_window(values, 0.0, jax.lax.add, (1, 3, 3, 1), (1,) * 4, pads)

    return total(x) / total(jnp.ones_like(x))


def _join(*branches):
    return jnp.concatenate(branches, -1)


def _three_channels(image):
    if image.ndim != 4 or image.shape[-1] not in (1, 3):
        raise ValueError(f"images {image.shape}: give 2D images of one or three channels")
    return jnp.repeat(image, 3, -1) if image.shape[-1] == 1 else image


def _normalized(image, moments=_IMAGENET):
    mean, deviation = map(jnp.array, moments)
    return (_three_channels(image) - mean) / deviation


def _resize_from_corner(x, size):
    """Bilinear interpolation to a square; output pixel i lies at ``i n / m``, as TensorFlow 1."""
    for axis in (1, 2):
        n = x.shape[axis]
        places = np.arange(size) * (n / size)
        low = places.astype(int)
        shape = [size if k == axis else 1 for k in range(x.ndim)]
        weight = jnp.asarray((places - low).astype(np.float32)).reshape(shape)
        high = np.minimum(low + 1, n - 1)
        x = jnp.take(x, low, axis) * (1 - weight) + jnp.take(x, high, axis) * weight
    return x
