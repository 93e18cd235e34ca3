"""Group convolution of C4 and O, forward and backward, against CubeNet's way and escnn in PyTorch.

CubeNet's way (Worrall & Brostow, 2018), made as fast as PyTorch allows: the rotated filters are
gathered by an index table, not interpolated, and handed to one `conv3d`. escnn is measured where it
is installed.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.ops.case import Case, waiting
from jaxmedgen.ops.group_conv import group_conv, lift_conv, lifting_table, regular_table
from jaxmedgen.ops.groups import Group, point_group

# group, batch, size, channels per element in and out: matched-parameter U-Nets of F = 6 and 2 at
# their full resolution, at their middle and at their bottom, where the filters outweigh the volume.
_SHAPES = [
    ("C4", 1, 48, 6, 6),
    ("C4", 1, 24, 12, 12),
    ("C4", 2, 6, 48, 48),
    ("O", 1, 32, 2, 2),
    ("O", 1, 16, 4, 4),
    ("O", 2, 6, 8, 8),
]
_K = 3


def cases(*, quick: bool, peers: bool) -> Iterator[Case]:
    """Regular convolutions on every shape, and one lifting convolution a group."""
    for name, batch, size, ci, co in _SHAPES:
        if not (quick and size > 32):
            yield from _pair(point_group(name), batch, size, ci, co, peers)
    for name, co in (("C4", 6), ("O", 2)):
        yield from _pair(point_group(name), 1, 32 if quick else 48, 4, co, peers, lifting=True)


def _pair(group, batch, size, ci, co, peers, lifting=False):
    rng = np.random.default_rng(0)
    inputs = () if lifting else (group.order,)
    x = rng.normal(size=(batch, size, size, size, *inputs, ci)).astype(np.float32)
    w = rng.normal(size=(_K, _K, _K, *inputs, ci, co)).astype(np.float32)
    ct = rng.normal(size=(batch, size, size, size, group.order, co)).astype(np.float32)
    label = group.name.split()[0]
    kind = "lifting" if lifting else "regular"
    name = f"group {label} {kind} {batch}x{size}^3 c{ci}-{co} both"
    wide = (1 if lifting else group.order) * ci * group.order * co
    flops = 6 * batch * size**3 * _K**3 * wide

    @jax.jit
    def ours(x, w, ct):
        function = lift_conv if lifting else group_conv
        y, backward = jax.vjp(lambda x, w: function(x, w, group), x, w)
        return y, backward(ct)

    run = waiting(ours, *(jnp.asarray(a) for a in (x, w, ct)))
    if not peers:
        yield Case(name, run, flops=flops)
        return
    yield Case(name, run, _gathered(group, x, w, ct, lifting), "torch, gathered filters", flops)
    escnn = None if lifting else _escnn(group, label, x, ct)
    if escnn is not None:
        yield Case(f"{name} again", run, escnn, "escnn", flops)


def _gathered(group: Group, x, w, ct, lifting):
    """Index the filters, one `conv3d`, autograd; in PyTorch's own layout, channels first."""
    import torch

    taps, order = (_K,) * 3, group.order
    ci, co = w.shape[-2:]
    if lifting:
        table = torch.from_numpy(lifting_table(group, taps).T.copy())  # [g, p]
    else:
        table = torch.from_numpy(regular_table(group, taps).transpose(2, 0, 1).copy())  # [g, p, h]
    image, cotangent = _channels_first(x).requires_grad_(), _channels_first(ct)
    weights = torch.from_numpy(w.reshape(-1, ci, co)).requires_grad_()

    def run():
        image.grad = weights.grad = None
        rows = weights.index_select(0, table.reshape(-1))
        if lifting:
            kernel = rows.view(order, _K**3, ci, co).permute(0, 3, 2, 1)
        else:
            kernel = rows.view(order, _K**3, order, ci, co).permute(0, 4, 2, 3, 1)
        kernel = kernel.reshape(order * co, -1, *taps)
        y = torch.nn.functional.conv3d(image, kernel, padding=_K // 2)
        y.backward(cotangent)
        return y

    y = np.moveaxis(run().detach().numpy(), 1, -1).reshape(ct.shape)
    function = lift_conv if lifting else group_conv
    expected = function(jnp.asarray(x), jnp.asarray(w), group)
    # The peer has to do the same work to be worth timing.
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-3 * np.abs(y).max())
    return run


def _escnn(group, label, x, ct):
    """The `R3Conv` of escnn between regular fields of the same group, with a basis of its own."""
    try:
        from escnn import gspaces, nn
    except ImportError:
        return None
    space = gspaces.octaOnR3() if label == "O" else gspaces.rot2dOnR3(4)
    fields = [nn.FieldType(space, [space.regular_repr] * a.shape[-1]) for a in (x, ct)]
    layer = nn.R3Conv(*fields, kernel_size=_K, padding=_K // 2, bias=False)
    image, cotangent = _channels_first(x).requires_grad_(), _channels_first(ct)

    def run():
        image.grad = None
        layer.zero_grad()
        layer(fields[0](image)).tensor.backward(cotangent)

    return run


def _channels_first(field):
    import torch

    return torch.from_numpy(np.moveaxis(field.reshape(*field.shape[:4], -1), -1, 1).copy())
