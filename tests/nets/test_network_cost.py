"""Counted sizes of networks: the talk's parameters, and what matching keeps equal."""

import jax.numpy as jnp
import pytest

from jaxmedgen.nets.group_layers import GroupConv3D, GroupConvTranspose3D
from jaxmedgen.nets.group_unet import GroupUNet3D
from jaxmedgen.nets.layers import Conv
from jaxmedgen.nets.network_cost import network_cost
from jaxmedgen.nets.unet import UNet
from jaxmedgen.ops.groups import point_group
from tests.nets.test_group_unet import COUNTS

SIZE = (16, 16, 16, 4)


def cost(group, filters, **settings):
    net = GroupUNet3D(point_group(group), 4, 4, filters=filters, patch_size=SIZE[:3], **settings)
    return network_cost(net, SIZE)


@pytest.mark.parametrize(("group", "filters"), [("trivial", 12), ("C4", 3), ("O", 2)])
def test_trainable_scalars_are_the_published_ones(group, filters):
    found = cost(group, filters)
    assert found.trainable == COUNTS[group, filters]
    assert (found.expanded == found.kernels) == (group == "trivial")


def test_equal_feature_maps_have_equal_expanded_kernels_and_operations():
    """All but the head, which sees 3 pooled channels in place of 12."""
    plain, c4 = cost("trivial", 12), cost("C4", 3)
    heads = 4 * (12 - 3)
    assert plain.expanded - c4.expanded == heads
    assert plain.flops - c4.flops == 2 * heads * 16**3
    assert c4.trainable == pytest.approx(plain.trainable / 4, rel=1e-3)


def test_equal_parameters_cost_the_groups_order():
    plain, c4 = cost("trivial", 12), cost("C4", 6)
    assert c4.trainable == pytest.approx(plain.trainable, rel=1e-3)
    assert c4.flops / plain.flops == pytest.approx(4, rel=0.06)  # the first layer grows by 2 only
    assert "3,641,770 parameters, " in str(c4) and "expanded kernels" in str(c4)
    assert "expanded" not in str(plain)


def test_single_layers():
    group = point_group("O")
    lifting = network_cost(GroupConv3D(2, 3, output_group=group), (5, 5, 5, 2))
    assert lifting.expanded == 24 * lifting.kernels == 24 * 27 * 2 * 3
    assert lifting.flops == 2 * lifting.expanded * 125
    up = network_cost(GroupConvTranspose3D(3, group), (5, 5, 5, 24, 2))
    assert up.expanded == 24 * (8 * 24 * 2 * 3) and up.flops == 2 * up.expanded * 125
    strided = network_cost(Conv(7, stride=2), (6, 6, 3))
    assert strided.flops == 2 * 9 * 3 * 7 * 9 and strided.trainable == 9 * 3 * 7 + 7
    # 2D U-Net: nothing to expand.
    flat = network_cost(UNet(dims=2, features=(4, 8), classes=3), (8, 8, 1))
    assert flat.expanded == flat.kernels < flat.trainable
    assert jnp.isfinite(flat.flops)
