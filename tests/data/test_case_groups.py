"""Groups of cases by pattern or table, and vendors of a folder's cases."""

import json

import jax
import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.case_groups import groups_of, vendor_names, with_vendors
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.phantoms.short_axis import ShortAxis
from jaxmedgen.systems.base import CanNameStyles, build_system

NAMES = ("siemens_01", "philips_02", "siemens_03")


def test_patterns_and_tables_give_the_same_groups(tmp_path):
    expected = ("siemens", "philips", "siemens")
    assert groups_of(NAMES, "^([^_]+)_") == expected
    lines = ["case,vendor", *(f"{n}, {v}" for n, v in zip(NAMES, expected))]
    (tmp_path / "vendors.csv").write_text("\n".join(lines))
    (tmp_path / "vendors.json").write_text(json.dumps(dict(zip(NAMES, expected))))
    for name in ("vendors.csv", "vendors.json"):
        assert groups_of(NAMES, str(tmp_path / name)) == expected
    with pytest.raises(ValueError, match="no line for other_9"):
        groups_of((*NAMES, "other_9"), str(tmp_path / "vendors.csv"))
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        groups_of(NAMES, str(tmp_path / "none.csv"))
    with pytest.raises(ValueError, match="has no group"):
        groups_of(NAMES, "^siemens")


def test_numbers_of_vendors(tmp_path):
    assert vendor_names(("B", "A")) == ("A", "B", "C", "D")
    assert vendor_names(("siemens", "philips")) == ("siemens", "philips")
    source = ShortAxis(4, (32, 32))
    found = with_vendors(source, "-([AB])$", ("B", "A"))
    assert [int(found[i]["vendor"]) for i in range(4)] == [0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"gives the vendors B, data\.vendors are A"):
        with_vendors(source, "-([AB])$", ("A",))


def test_a_folder_with_vendors_trains_the_vendor_arm(tmp_path):
    """Records know their vendor through all cuts; the generator samples in one by its name."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        label = np.zeros((16, 16, 3), np.uint8)
        label[4:9, 4:9], label[9:12, 4:9], label[4:9, 9:12] = 1, 2, 3
        write_volume(tmp_path / "labels" / f"{name}.nii.gz", label, np.diag([2.0, 2, 8, 1]))
        image = rng.random((16, 16, 3), np.float32)
        write_volume(tmp_path / "images" / f"{name}.nii.gz", image, np.diag([2.0, 2, 8, 1]))
    config = load_config(
        "cardiac_synthesis:cpu,arm=vendor,data=volumes",
        {
            "data.kind": "folder",
            "data.folder": str(tmp_path),
            "data.shape": "(16, 16, 3)",
            "data.vendor_of": "^([^_]+)_",
            "data.vendors": "('philips', 'siemens')",
            "model.levels": "1",
        },
    )
    sources = build_sources(config.data)
    vendors = [int(sources.train[i]["vendor"]) for i in range(len(sources.train))]
    assert sorted(vendors) == [0] * 3 + [1] * 6
    system = build_system(config, sources.info)
    assert isinstance(system, CanNameStyles) and system.style_names == ("philips", "siemens")
    label = jax.numpy.zeros((2, 16, 16), int)
    keys = jax.random.split(jax.random.key(0), 2)

    def sample(label):
        state = system.init(keys[0], {})
        variables = {n: p.evaluation_variables() for n, p in state.players.items()}
        return system.sample_style(variables, keys, label, "siemens")[0]

    assert jax.eval_shape(sample, label).shape == (2, 16, 16, 1)
    with pytest.raises(ValueError, match="knows philips, siemens"):
        system.sample_style({}, keys, label, "B")


@pytest.mark.parametrize("name", ["unet:cpu", "cardiac_synthesis:cpu,data=stacks"])
def test_stacks_of_hearts_with_images_are_a_data_source(name):
    """Whole volumes for 3D networks, or cut into slices with their vendor."""
    shape = "(6, 32, 32)" if name.startswith("unet") else "(32, 32)"
    counts = {"data.train": "2", "data.validation": "0", "data.test": "1"}
    counts |= {"data.kind": "short_axis_stack", "data.shape": shape}
    config = load_config(name, counts)
    sources = build_sources(config.data)
    record = sources.train[0]
    if name.startswith("unet"):
        assert record["image"].shape == (6, 32, 32, 1) and record["label"].shape == (6, 32, 32)
        np.testing.assert_allclose(record["spacing"], sources.info.spacing, rtol=1e-5)
    else:
        assert record["image"].shape == (32, 32, 1) and len(sources.train) >= 12
        assert {int(sources.train[i]["vendor"]) for i in range(len(sources.train))} == {0, 1}
    assert 0 <= record["image"].min() < record["image"].max() <= 1
