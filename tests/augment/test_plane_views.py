"""Planes and volumes move apart, but are scaled alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.augment.plane_views import PlaneAugmentation
from jaxmedgen.data.planes import VIEW_AXES


def test_scales_are_common_and_poses_are_not():
    augmentation = PlaneAugmentation(VIEW_AXES, (0.8, 1.25), 10.0, 0.1)
    keys = jax.random.split(jax.random.key(0), 200)
    volume, planes = jax.jit(augmentation.matrices)(keys)
    # Sampling maps: row i of diag(1/s) R has length 1/s_i.
    scales = 1 / np.linalg.norm(volume[:, :3, :3], axis=-1)
    assert scales.min() >= 0.799 and scales.max() <= 1.251 and scales.std() > 0.1
    angles, shifts = [], []
    for axes, plane in zip(VIEW_AXES, planes):
        inverse = np.linalg.norm(plane[:, :2, :2], axis=-1)
        np.testing.assert_allclose(1 / inverse, scales[:, axes], rtol=1e-4)
        turned = plane[:, :2, :2] / inverse[..., None]
        angles.append(np.rad2deg(np.arctan2(turned[:, 1, 0], turned[:, 0, 0])))
        shifts.append(plane[:, 0, 2] / inverse[:, 0])
    angles = np.array(angles)
    assert np.abs(angles).max() <= 10.001 and angles.std() > 4
    for found in (np.corrcoef(angles), np.corrcoef(shifts)):
        assert np.abs(found - np.eye(3)).max() < 0.3  # each view by itself


def test_a_box_grows_in_planes_and_volume_alike():
    augmentation = PlaneAugmentation(VIEW_AXES, (1.25, 1.25), 0.0, 0.0)
    volume = np.zeros((1, 40, 40, 40), np.int32)
    volume[:, 12:28, 16:24, 10:30] = 1
    views = [volume[0].any(axis) for axis in (2, 0, 1)]
    planes = jnp.asarray(np.stack(views, -1)[None], jnp.float32)
    moved, label = jax.jit(augmentation)(
        jax.random.split(jax.random.key(0), 1), planes, jnp.asarray(volume)
    )
    sizes = [np.ptp(np.flatnonzero(np.asarray(label[0]).any(axes))) + 1
             for axes in ((1, 2), (0, 2), (0, 1))]  # fmt: skip
    np.testing.assert_allclose(sizes, (20, 10, 25), atol=1)
    for view, axes in enumerate(VIEW_AXES):
        inside = np.asarray(moved[0, ..., view]) > 0.5
        seen = [np.ptp(np.flatnonzero(inside.any(1 - k))) + 1 for k in (0, 1)]
        np.testing.assert_allclose(seen, [sizes[axis] for axis in axes], atol=1)


def test_ranges_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="scale="):
        PlaneAugmentation(VIEW_AXES, (0.0, 1.0))
    with pytest.raises(ValueError, match=r"translation=0\.7"):
        PlaneAugmentation(VIEW_AXES, translation=0.7)
