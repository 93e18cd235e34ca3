"""Stacks of phantom hearts, their slices, equalised volumes, groups."""

import collections

import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.image_slices import ImageSlices
from jaxmedgen.data.phantoms.short_axis import merge_tissues
from jaxmedgen.data.phantoms.short_axis_stack import (
    DISEASES,
    ShortAxisStacks,
    contract,
    draw_heart,
    draw_stack,
)
from jaxmedgen.data.phantoms.vendors import VENDORS
from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.sources import ArraySource, DatasetInfo
from jaxmedgen.data.stacks import (
    Slices,
    Stack,
    base_first,
    crop_to_content,
    read_groups,
    read_stacks,
)
from jaxmedgen.metrics.cardiac import clinical_indices, ejection_fraction
from jaxmedgen.metrics.plausibility import plausible_share

SIZE = 40
RAMP = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7, 1)


@pytest.fixture(scope="module")
def stacks():
    return read_stacks(ShortAxisStacks(SIZE))


def test_diseases_have_their_signatures(stacks):
    found = {name: [] for name in DISEASES}
    for stack in stacks:
        found[stack.group].append(clinical_indices(stack.label, stack.spacing).vector())
    mean = {name: np.mean(rows, 0) for name, rows in found.items()}
    left, right, _, wall = (np.asarray([mean[d][k] for d in DISEASES]) for k in range(4))
    assert DISEASES[int(left.argmax())] == "DCM" and left[1] > 1.4 * left[0]
    assert DISEASES[int(right.argmax())] == "RV" and right[3] > 1.4 * right[0]
    assert DISEASES[int(wall.argmax())] == "HCM" and wall[2] > wall[0] + 3
    assert DISEASES[int(wall.argmin())] == "DCM"


def test_training_stacks_are_plausible_hearts_of_6_to_14_slices(stacks):
    counts = [len(stack.label) for stack in stacks]
    assert min(counts) >= 5 and max(counts) <= 14 and len(set(counts)) > 5
    assert np.mean([plausible_share(stack.label) for stack in stacks]) > 0.99
    areas = [(stack.label > 0).sum((1, 2)) for stack in stacks]
    assert all(a[0] > 1.5 * a[-1] for a in areas)
    right = [(stack.label == 3).sum((1, 2)) for stack in stacks]
    assert all(a[0] > 0 and a[-1] == 0 for a in right)  # gone before the apex


def test_end_systole_ejects_and_keeps_the_muscle():
    phases = ShortAxisStacks(8, phases=("ED", "ES"))
    assert phases.phases_of == ("ED", "ES") * 8
    assert len(phases) == 16 and phases.groups[:4] == ("NOR", "NOR", "DCM", "DCM")
    for subject in range(8):
        ed, es = (
            clinical_indices(record["label"], record["spacing"].tolist())
            for record in (phases[2 * subject], phases[2 * subject + 1])
        )
        fraction = ejection_fraction(ed.lv_volume, es.lv_volume)
        assert (fraction < 0.35) == (phases.disease_of(2 * subject) == "DCM")
        assert es.mass == pytest.approx(ed.mass, rel=0.08)
    with pytest.raises(ValueError, match="ejection_fraction=1"):
        contract(draw_heart(np.random.default_rng(0)), 1.0)


def test_subjects_are_functions_of_their_number_and_have_images_on_demand():
    late = ShortAxisStacks(2, start=3, vendors=("A",))
    early = ShortAxisStacks(5)
    np.testing.assert_array_equal(late[0]["label"], early[3]["label"])
    record = late[0]
    assert record["image"].shape == (*record["label"].shape, 1)
    assert 0 <= record["image"].min() and record["image"].max() <= 1
    with pytest.raises(ValueError, match="diseases"):
        ShortAxisStacks(2, diseases=("flu",))


def test_every_vendor_has_every_disease_and_label_maps_are_what_they_were():
    two = ShortAxisStacks(20, start=3, vendors=("A", "B"), phases=("ED", "ES"))
    counts = collections.Counter((two.vendor_of(i), two.disease_of(i)) for i in range(2, 34))
    assert counts == {(v, d): 4 for v in "AB" for d in DISEASES}  # 8 subjects twice, both phases
    for index in (2, 9):
        record = two[index]
        assert VENDORS[record["vendor"]] == two.vendor_of(index)
        one = ShortAxisStacks(
            1, start=3 + index // 2, phases=("ED", "ES"), diseases=(two.disease_of(index),)
        )
        np.testing.assert_array_equal(one[index % 2]["label"], record["label"])
    # Of label deformation, whose stacks have no vendor: the disease is the number's.
    config = load_config("label_deformation", {"data.train": "9", "data.test": "2"})
    sources = build_sources(config.data)
    for start, part in ((0, sources.train), (9, sources.test)):
        for number, stack in enumerate(part.stacks, start):
            assert stack.group == DISEASES[number % 4]
            rng = sample_generator(0, 0, number, 11)
            heart = draw_heart(rng, stack.group)
            rng.uniform()  # the ejection fraction
            count = int(rng.integers(6, 15))
            label = merge_tissues(draw_stack(rng, heart, count, (64, 64)), 4)
            info = DatasetInfo(two.info.class_names, (), (8.0, 2.5, 2.5), ("one",))
            drawn = ArraySource([{"label": label}], info)
            np.testing.assert_array_equal(read_stacks(drawn, (64, 64))[0].label, stack.label)


def test_stacks_are_turned_upright_cropped_and_ordered(stacks):
    stack = stacks[0]
    label = stack.label
    np.testing.assert_array_equal(base_first(label[::-1]), label)
    np.testing.assert_array_equal(base_first(label), label)
    shifted = np.pad(label, [(0, 0), (17, 3), (0, 40)])
    cropped = crop_to_content(shifted, (64, 64))
    np.testing.assert_array_equal((cropped > 0).sum(), (label > 0).sum())
    # As a scan has it: slices along the last axis, apex first, empty ones at the end.
    volume = np.pad(np.moveaxis(shifted[::-1], 0, -1), [(0, 0), (0, 0), (2, 1)])
    info = DatasetInfo(("background", *"abc"), (), (1.0, 1.0, 9.0), ("scan",))
    (read,) = read_stacks(ArraySource([{"label": volume}], info), (64, 64))
    np.testing.assert_array_equal(read.label, cropped)
    assert read.spacing == (9.0, 1.0, 1.0)


def test_equal_spacings_are_cut_along_the_axis_that_image_slices_have():
    label = np.zeros((5, 6, 7), np.int32)
    label[1:3, 1:4, 2:6] = 1
    info = DatasetInfo(("background", "heart"), ("image",), (1.0, 1.0, 1.0), ("scan",))
    source = ArraySource([{"label": label, "image": RAMP}], info)
    (stack,), slices = read_stacks(source), ImageSlices(source, empty=False)
    assert stack.label.shape == (4, 5, 6) and len(slices) == 4
    np.testing.assert_array_equal(stack.label[0], slices[0]["label"])


def test_slices_and_volumes_of_a_configuration():
    stacks = read_stacks(ShortAxisStacks(3), (64, 64))  # cropped around the heart
    small = {"data.train": "3", "data.test": "2"}
    sources = build_sources(load_config("label_deformation", small).data)
    assert len(sources.train) == sum(len(s.label) for s in stacks[:3])
    assert sources.info.spacing == (2.5, 2.5)
    names = set(sources.train.info.case_names) & set(sources.test.info.case_names)
    assert not names
    np.testing.assert_array_equal(sources.train[0]["label"], stacks[0].label[0])
    volumes = build_sources(load_config("label_deformation:cpu,arm=volume", small).data)
    assert volumes.train[2]["label"].shape == (32, 64, 64)
    assert len(volumes.info.spacing) == 3
    np.testing.assert_array_equal(volumes.train[1]["label"][[0, -1]], stacks[1].label[[0, -1]])
    lengths = [stack.spacing[0] * (len(stack.label) - 1) for stack in stacks[:3]]
    assert len(set(lengths)) > 1  # hearts are not of one length: each volume has its own spacing
    np.testing.assert_allclose([volumes.train[i]["spacing"][0] * 31 for i in range(3)], lengths)


def test_slices_have_the_spacing_of_their_stack():
    label = np.ones((2, 5, 6), np.int32)
    stacks = [Stack(label, (8.0, 1.0 + k, 1.0 + k), f"s{k}") for k in range(2)]
    slices = Slices(tuple(stacks), ("background", "heart"))
    assert [tuple(slices[i]["spacing"]) for i in range(4)] == [(1, 1)] * 2 + [(2, 2)] * 2


def test_groups_are_read_from_a_table(tmp_path):
    source = ShortAxisStacks(2)
    table = tmp_path / "groups.csv"
    table.write_text("case,group\nheart-00000-ED,HCM\nheart-00001-ED,NOR\n")
    assert [s.group for s in read_stacks(read_groups(source, str(table)))] == ["HCM", "NOR"]
    table.write_text("heart-00000-ED,HCM\n")
    with pytest.raises(ValueError, match="no line for heart-00001-ED"):
        read_groups(source, str(table))
    assert isinstance(Slices((), ("background",)).info, DatasetInfo)
