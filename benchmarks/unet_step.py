"""A whole 3D U-Net training step: ours against MONAI's DynUNet, same layers, same machine, one run.

    pip install -e '.[bench]'
    python -m benchmarks.unet_step --size 48 64 --rounds 5

Forward, Dice + cross-entropy, backward, Adam; batch 2, features 16-32-64-128, float32. Each side
has a process of its own with the same number of threads; they take turns, the one at work while the
other waits, and the medians over the rounds are compared. Before any timing both compute logits
from the same weights, which must agree. Prints a line for each size and one of JSON.
"""

import argparse
from collections.abc import Callable

import numpy as np

from benchmarks.timing.training import flat, torch_step
from benchmarks.timing.turns import add_arguments, measure, print_json, serve_side

FEATURES = (16, 32, 64, 128)


def main() -> None:
    """Runs both sides in turn and prints the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs="+", default=[48, 64], help="edge of the volume")
    add_arguments(parser, batch=2, steps=2)
    args = parser.parse_args()
    if args.worker:
        rng = np.random.default_rng(0)
        space = (args.size[0],) * 3
        image = rng.normal(size=(args.batch, *space, 1)).astype(np.float32)
        label = rng.integers(0, 2, size=(args.batch, *space)).astype(np.int32)
        build = jaxmedgen_side if args.worker == "jaxmedgen" else monai_side
        serve_side(args, lambda: build(image, label, args))
        return
    results = []
    for size in args.size:
        how = {"label": f"{size}^3: ", "what": "logits", "peer": "monai"}
        results.append({"size": size, **measure("unet_step", args, **how, size=size)})
    print_json("unet_step", args, results=results)


def jaxmedgen_side(
    image: np.ndarray, label: np.ndarray, args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """Our step, and the weights and logits written for the other side."""
    import jax
    import optax

    from jaxmedgen.losses.segmentation import dice_ce_loss
    from jaxmedgen.nets.unet import UNet

    net, adam = UNet(features=FEATURES), optax.adam(1e-3)
    params = jax.jit(net.init)(jax.random.key(0), image)["params"]
    logits = jax.jit(net.apply)({"params": params}, image)
    np.savez(args.exchange, logits=logits, **flat(params))

    def update(state, image, label):
        params, moments = state

        def loss(params):
            return dice_ce_loss(net.apply({"params": params}, image, train=True), label)

        value, grads = jax.value_and_grad(loss)(params)
        updates, moments = adam.update(grads, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    compiled = jax.jit(update, donate_argnums=0)
    state = [(params, adam.init(params))]
    image, label = jax.device_put((image, label))

    def step():
        state[0], value = compiled(state[0], image, label)
        return value.item()

    return step, 0.0


def monai_side(
    image: np.ndarray, label: np.ndarray, args: argparse.Namespace
) -> tuple[Callable[[], float], float]:
    """The same step in PyTorch; all axes are flipped, see `_load`."""
    import torch
    from monai.losses import DiceCELoss
    from monai.networks.nets import DynUNet

    torch.set_num_threads(args.threads)
    levels = len(FEATURES)
    net = DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=FEATURES,
        norm_name=("INSTANCE", {"affine": True}),
    )
    x = torch.tensor(np.moveaxis(image, -1, 1)).flip((2, 3, 4)).contiguous()
    y = torch.tensor(label)[:, None].flip((2, 3, 4)).contiguous()
    with np.load(args.exchange) as weights:
        _load(net, weights)
        expected = np.moveaxis(weights["logits"], -1, 1)
    with torch.no_grad():
        difference = float(np.abs(net(x).flip((2, 3, 4)).numpy() - expected).max())
    if difference > 1e-3:
        raise SystemExit(f"logits of the same weights differ by {difference}: not the same network")
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    return torch_step(adam, lambda: loss(net(x), y)), difference


def _load(net, weights) -> None:
    """Our weights into DynUNet, mirrored along all axes.

    A strided convolution pads an even axis after it here and before it in PyTorch: mirrored images
    and kernels make that the same.
    """
    import torch

    levels = len(FEATURES)
    encoders = ["input_block", *(f"downsamples.{i}" for i in range(levels - 2)), "bottleneck"]
    names = {f"encoder_{i}": name for i, name in enumerate(encoders)}
    names |= {f"decoder_{i}": f"upsamples.{levels - 2 - i}.conv_block" for i in range(levels - 1)}
    state = {}
    for ours, theirs in names.items():
        for i in range(2):
            state[f"{theirs}.conv{i + 1}.conv.weight"] = weights[f"{ours}/Conv_{i}/kernel"]
            state[f"{theirs}.norm{i + 1}.weight"] = weights[f"{ours}/Norm_{i}/scale"]
            state[f"{theirs}.norm{i + 1}.bias"] = weights[f"{ours}/Norm_{i}/bias"]
    for i in range(levels - 1):
        name = f"upsamples.{levels - 2 - i}.transp_conv.conv.weight"
        state[name] = np.swapaxes(weights[f"up_{i}/kernel"], -1, -2)
    state["output_block.conv.conv.weight"] = weights["head_0/kernel"]
    state["output_block.conv.conv.bias"] = weights["head_0/bias"]
    for name, value in state.items():
        if value.ndim == 5:
            value = value[::-1, ::-1, ::-1].transpose(4, 3, 0, 1, 2)
        state[name] = torch.tensor(np.ascontiguousarray(value))
    # DynUNet lists each layer again under skip_layers; the logits show that none is missing.
    net.load_state_dict(state, strict=False)


if __name__ == "__main__":
    main()
