"""Atlas files: values, grid and names of the volumes, pictures beside them."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from jaxmedgen.experiments.atlas import write_atlas
from jaxmedgen.systems.deformation.paddit_atlas import Atlas


class Fixed:
    """A system that summarises every population alike."""

    def __init__(self, shape, channels):
        rng = np.random.default_rng(0)
        self.made = Atlas(
            rng.random((*shape, channels), np.float32),
            rng.random((*shape, channels), np.float32),
            rng.integers(0, 3, shape).astype(np.int32),
            rng.random((2, 3, *shape, channels), np.float32),
        )

    def atlas(self, variables):
        return self.made


@pytest.mark.parametrize(
    "shape, spacing, channels", [((12, 10), (1.0, 1.0), 1), ((8, 9, 7), (4.0, 4.0, 3.0), 2)]
)
def test_volumes_hold_the_atlas_on_its_grid(tmp_path, shape, spacing, channels):
    system = Fixed(shape, channels)
    write_atlas(system, {}, spacing, tmp_path)
    end = "" if channels == 1 else "_0001"
    expected = {
        f"template{end}": system.made.image[..., -1],
        f"variance{end}": system.made.variance[..., -1],
        "labels": system.made.label,
        f"mode2_minus{end}": system.made.modes[1, 0, ..., -1],
        f"mode2_plus{end}": system.made.modes[1, 2, ..., -1],
    }
    for name, array in expected.items():
        written = nib.load(tmp_path / f"{name}.nii.gz")
        np.testing.assert_allclose(np.squeeze(written.get_fdata()), array, rtol=1e-6)
        assert written.header.get_zooms()[: len(shape)] == pytest.approx(spacing)
    assert len(list(tmp_path.glob("*.nii.gz"))) == 1 + 6 * channels
    sizes = [Image.open(tmp_path / f"{name}.png").size for name in ("atlas", "modes")]
    assert min(min(size) for size in sizes) > 100


def test_a_system_without_an_atlas_writes_nothing(tmp_path):
    write_atlas(object(), {}, (1.0, 1.0), tmp_path)
    assert not list(tmp_path.iterdir())
