"""Every shipped configuration loads at every size and builds its system."""

import itertools
import pathlib

import nibabel as nib
import numpy as np
import pytest

from jaxmedgen.configuration import SIZES, ConfigError, load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.phantoms.vendors import VENDORS
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.systems.base import CanPredict, System, build_system

NAMES = sorted(p.stem for p in (pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))
TOP_LEVEL = ("steps", "batch_size", "seed", "checkpoint_every", "eval_every", "system", "parallel")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_configuration_builds_its_system(name, size):
    config = load_config(f"{name}:{size}")
    assert all(key in config for key in TOP_LEVEL)
    names = config.data.target_names or ("background", "a", "b")
    axes = len(config.data.shape) if name in ("it_vae", "cardiac_synthesis") else 3
    info = DatasetInfo(tuple(names), ("t1",), (2.0,) * axes, ())
    system = build_system(config, info)
    assert isinstance(system, System)
    if isinstance(system, CanPredict):
        assert getattr(system, "net", system).classes == len(names)


@pytest.mark.parametrize("size", SIZES)
def test_all_options_of_paddit_that_go_together_build(size):
    options = itertools.product(
        ("paddit", "map"),
        ("stationary", "geodesic"),
        ("wendland", "bspline", "band", "dense"),
        ("population", "label_maps"),
    )
    for arm, flow, field, data in options:
        if (flow, field) == ("geodesic", "bspline"):
            continue  # refused
        config = load_config(f"paddit:{size},arm={arm},flow={flow},field={field},data={data}")
        names = config.data.target_names or ("background", "a", "b")
        channels, axes = ("t1",) if data == "population" else (), len(config.data.shape)
        system = build_system(config, DatasetInfo(names, channels, (2.0,) * axes, ()))
        assert system.sampler == ("map" if arm == "map" else "hmc")


def test_demo_takes_no_options_but_sizes():
    with pytest.raises(ConfigError, match="unknown option 'arm'"):
        load_config("demo:cpu,arm=none")


def test_contrast_family_of_synthseg_is_ordered_like_t1():
    config = load_config("synthseg:cpu,contrast=t1")
    means = config.augment.synthesis.contrast_means
    assert len(means) == len(config.data.target_of)
    low = dict(zip(config.data.target_names, range(9)))
    by_class = {
        name: [sum(m) / 2 for m, t in zip(means, config.data.target_of) if t == number]
        for name, number in low.items()
    }
    assert max(by_class["ventricles"]) < min(by_class["grey_matter"])
    assert max(by_class["grey_matter"]) < min(by_class["white_matter"])


def test_simulated_studies_have_images_and_coarse_test_labels(tmp_path):
    label = np.zeros((48, 48, 48), np.int16)
    label[12:36, 12:36, 12:36] = 3
    label[16:32, 16:32, 16:32] = 2
    for k in range(3):
        (tmp_path / "maps").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(np.roll(label, k, 0), np.eye(4)), tmp_path / f"maps/s{k}.nii.gz")
    overrides = {
        "data.folder": str(tmp_path / "maps"),
        "data.kind": "folder",
        "data.test": "1",
        "data.shape": "(12, 12, 12)",
    }
    sources = build_sources(load_config("heldout_contrast:cpu", overrides).data)
    assert (len(sources.train), len(sources.test)) == (2, 1)
    assert sources.train[0]["image"].shape == (12, 12, 12, 1)
    assert sources.test[0]["image"].shape == (12, 12, 12, 1)
    assert sources.info.class_names == sources.test.info.class_names
    assert set(np.unique(sources.test[0]["label"])) <= {0, 1, 2}


def test_cardiac_synthesis_takes_all_volumes_of_a_folder(tmp_path):
    for k in range(3):
        image = np.random.default_rng(k).random((40, 36, 6)).astype(np.float32)
        label = np.zeros(image.shape, np.uint8)
        label[10:20, 10:20, 1:5] = 1 + k
        affine = np.diag([2.0, 2.0, 8.0, 1.0])
        for name, array in (("imagesTr", image), ("labelsTr", label)):
            end = "_0000" if name == "imagesTr" else ""
            (tmp_path / name).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, affine), tmp_path / name / f"heart_{k}{end}.nii.gz")
    overrides = {"data.kind": "folder", "data.folder": str(tmp_path), "data.train": "0"}
    config = load_config("cardiac_synthesis:cpu,data=volumes", overrides)
    sources = build_sources(config.data)
    assert len(sources.train) == 3 * 4 and not len(sources.test)  # those with a heart
    config.data.empty_slices = True
    assert len(build_sources(config.data).train) == 3 * 6  # but not what volumes are padded by
    window = sources.train[0]["window"]
    assert window[0, 0] < 0.05 and window[1, 0] > 0.95
    assert sources.train[0]["image"].shape == (64, 64, 1)


@pytest.mark.parametrize("name", ["unet", "ablation"])
@pytest.mark.parametrize(
    ("kind", "settings", "classes", "tested"),
    [
        ("short_axis", {"vendors": "('C',)", "test_vendors": "('D',)", "heart_classes": "8"}, 8, 3),
        ("short_axis", {}, 4, 3),
        ("short_axis_stack", {"vendors": "('C',)", "diseases": "('HCM',)"}, 4, 3),
        ("heart_slices", {"vendors": "('C',)", "test_vendors": "('C', 'D')"}, 8, 6),
        ("heart_slices", {"test_diseases": "('HCM', 'RV')"}, 8, 6),
        ("late_enhancement", {"slices": "2"}, 10, 6),
        ("cluttered_digits", {"clutter": "1", "piece": "5", "glyph": "18", "domains": "2"}, 3, 3),
        ("cluttered_digits", {}, 2, 3),
    ],
)
def test_phantoms_of_hearts_and_digits_are_labelled_data_of_segmenters(
    name, kind, settings, classes, tested
):
    shape = "(6, 32, 32)" if kind == "short_axis_stack" else "(32, 32)"
    settings = settings | {"kind": kind, "shape": shape}
    counts = {"data.train": "4", "data.validation": "1", "data.test": "3"}
    config = load_config(name, counts | {f"data.{key}": text for key, text in settings.items()})
    sources = build_sources(config.data)
    assert len(sources.info.class_names) == classes and len(sources.test) == tested
    for part in (sources.train, sources.test):
        records = [part[i] for i in range(len(part))]
        assert {r["image"].shape[:-1] for r in records} == {tuple(config.data.shape)}
        assert all(0 < r["label"].max() < classes for r in records)
    names = [getattr(sources, part).info.case_names for part in ("train", "test")]
    if kind == "short_axis":
        vendors = [{case[-1] for case in part} for part in names]
        assert vendors == ([{"C"}, {"D"}] if settings.get("vendors") else [{"A", "B"}] * 2)
    if kind == "short_axis_stack":
        assert {VENDORS[r["vendor"]] for r in records} == {"C"} and set(part.groups) == {"HCM"}
    if kind == "heart_slices":
        groups = [{case[:-6] for case in part} for part in names]
        of_vendors = [{"C-NOR"}, {"C-NOR", "D-NOR"}]
        assert groups == (of_vendors if settings.get("vendors") else [{"A-NOR"}, {"A-HCM", "A-RV"}])
