"""Pictures: orientation, colours, errors, PNG bytes that others can read."""

import io

import matplotlib.image
import numpy as np
import pytest

from jaxmedgen.report import pictures


def _corner(*where):
    """A dark volume with one bright octant towards the given ends."""
    volume = np.zeros((20, 20, 20), np.float32)
    volume[tuple(slice(10, 20) if w else slice(0, 10) for w in where)] = 1
    return volume


def _bright(panel):
    """Half of the panel, (vertical, horizontal), in which the bright part lies."""
    rows, columns = np.nonzero(panel[..., 0] > 128)
    h, w = panel.shape[:2]
    return (
        "top" if rows.mean() < h / 2 else "bottom",
        "left" if columns.mean() < w / 2 else "right",
    )


def _panels(picture, count=3, height=36):
    return [picture[:height, i * (height + 4) : i * (height + 4) + height] for i in range(count)]


def test_radiological_convention():
    # Bright at the patient's right, front and top; the planes go through it by its label.
    image = _corner(1, 1, 1)
    label = (image > 0).astype(np.int32)
    axial, coronal, sagittal = _panels(pictures.three_planes(image, label, height=36))
    assert _bright(axial) == ("top", "left")  # Front up, right on the left.
    assert _bright(coronal) == ("top", "left")  # Top up, right on the left.
    assert _bright(sagittal) == ("top", "left")  # Top up, front on the left.
    image = _corner(0, 1, 0)
    label = (image > 0).astype(np.int32)
    axial, coronal, sagittal = _panels(pictures.three_planes(image, label, height=36))
    assert _bright(axial) == ("top", "right")
    assert _bright(coronal) == ("bottom", "right")
    assert _bright(sagittal) == ("bottom", "left")


def test_2d_is_shown_as_it_is():
    image = np.zeros((20, 30), np.float32)
    image[2:8, 20:28] = 1
    picture = pictures.three_planes(image, height=60)
    assert picture.shape == (40, 60, 3)
    assert _bright(picture) == ("top", "right")


def test_the_spacing_tells_channels_of_a_plane_from_a_volume():
    image = np.random.default_rng(1).random((30, 20, 2)).astype(np.float32)
    shown = pictures.three_planes(image, spacing=(1.0, 1.0), height=60)
    np.testing.assert_array_equal(shown, pictures.three_planes(image[..., 0], height=60))


def test_rows_and_shapes():
    image, label = _corner(1, 1, 1), (_corner(1, 1, 1) > 0).astype(np.int32)
    bare = pictures.three_planes(image, height=36)
    both = pictures.three_planes(image, label, label, height=36)
    assert bare.shape == (36, 3 * 36 + 2 * 4, 3)
    assert both.shape[0] == 4 * 36 + 3 * 4 and both.dtype == np.uint8
    flat = pictures.three_planes(image[0], label[0], label[0], height=36)
    assert flat.shape == (36, 4 * 36 + 3 * 4, 3)
    channels = np.stack([image, 0 * image], axis=-1)
    np.testing.assert_array_equal(pictures.three_planes(channels, label, height=36), both[:76])
    stacked = pictures.plane_columns(image, [None, label], height=36)
    assert len(stacked) == 2 and stacked[0].shape == (3 * 36 + 2 * 4, 36, 3)


def test_spacing_gives_square_pixels():
    image = np.zeros((10, 10, 5), np.float32)
    picture = pictures.three_planes(image, spacing=(1, 1, 4), height=80)
    assert picture.shape == (80, 40 + 40 + 40 + 8, 3)


def test_colours_follow_classes_and_errors():
    image = np.zeros((12, 12), np.float32)
    label = np.zeros((12, 12), np.int32)
    label[2:6, 2:6] = 1
    prediction = np.zeros_like(label)
    prediction[2:6, 4:8] = 1
    picture = pictures.three_planes(image, label, prediction, height=12)
    _, reference, _, errors = (picture[:, i * 16 : i * 16 + 12] for i in range(4))
    colour = np.array([int(pictures.PALETTE[0][i : i + 2], 16) for i in (1, 3, 5)])
    np.testing.assert_array_equal(reference[2, 2], colour)
    np.testing.assert_array_equal(reference[8, 8], 0)
    missed, added = (
        np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in pictures.ERROR_COLOURS[:2]
    )
    np.testing.assert_array_equal(errors[2, 2], missed)
    np.testing.assert_array_equal(errors[2, 7], added)
    np.testing.assert_array_equal(errors[3, 4], 0)


def test_png_is_read_back_by_matplotlib(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    path = pictures.save_png(tmp_path / "samples" / "a.png", picture)
    found = matplotlib.image.imread(path)
    np.testing.assert_array_equal(np.round(found * 255).astype(np.uint8), picture)
    grey = matplotlib.image.imread(io.BytesIO(pictures.png_bytes(np.array([[0.0, 2.0], [1, 1]]))))
    np.testing.assert_allclose(grey[..., 0], [[0, 1], [0.5, 0.5]], atol=0.01)


def test_montage():
    a, b = np.zeros((4, 6, 3), np.uint8), np.full((2, 3), 9, np.uint8)
    found = pictures.montage([a, b, a], columns=2, gap=1, background=200)
    assert found.shape == (4 + 1 + 4, 6 + 1 + 3, 3)
    assert found[0, 0, 0] == 0 and found[0, 7, 0] == 200 and found[1, 7, 0] == 9
    assert (found[5:, 7:] == 200).all()
    with pytest.raises(ValueError, match="no pictures"):
        pictures.montage([])
    with pytest.raises(ValueError, match="a picture is uint8"):
        pictures.montage([np.zeros((2, 2, 2, 3), np.uint8)])


def test_errors_name_the_shapes():
    with pytest.raises(ValueError, match=r"shape \(4, 4, 5\), its image \(4, 4, 4\)"):
        pictures.three_planes(np.zeros((4, 4, 4)), np.zeros((4, 4, 5), int))
    with pytest.raises(ValueError, match="2D or 3D"):
        pictures.three_planes(np.zeros((2, 4, 4, 4, 1)))


def test_constant_and_nan_images_are_drawn():
    flat = pictures.three_planes(np.full((8, 8), 3.0), height=8)
    assert (flat == 0).all()
    image = np.zeros((8, 8))
    image[0, 0], image[4, 4] = np.nan, 1
    picture = pictures.three_planes(image, height=8)
    assert picture[0, 0, 0] == 0 and picture[4, 4, 0] == 255


def test_colours_differ():
    assert len(set(pictures.class_colours(16))) == 16
    assert pictures.class_colours(17)[16] == pictures.class_colours(1)[0]
