import json

import numpy as np
import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data import label_map
from jaxmedgen.data.label_map import class_table, read_label_map, remap
from jaxmedgen.data.untrusted import DataError


def test_remap_sends_values_to_classes_and_the_rest_to_background():
    label = np.array([[0, 2, 41], [1001, 17, 3]], np.int32)
    got = remap(label, {2: 1, 41: 1, 17: 2, 1001: 3})
    np.testing.assert_array_equal(got, [[0, 1, 1], [3, 2, 0]])
    assert got.dtype == np.int32


def test_files(tmp_path):
    named = tmp_path / "named.json"
    named.write_text(json.dumps({"background": 0, "white": [2, 41], "cortex": [3, 42], "stem": 16}))
    table, names = read_label_map(named)
    assert names == ("background", "white", "cortex", "stem")
    assert table == {0: 0, 2: 1, 41: 1, 3: 2, 42: 2, 16: 3}
    numbered = tmp_path / "numbered.json"
    numbered.write_text('{"2": 1, "41": 1, "3": 2}')
    assert read_label_map(numbered) == ({2: 1, 41: 1, 3: 2}, ())
    rows = tmp_path / "rows.csv"
    rows.write_text("value,class,name\n2,1,white\n41,1,\n3,2,cortex\n")
    assert read_label_map(rows) == ({2: 1, 41: 1, 3: 2}, ("background", "white", "cortex"))
    rows.write_text("value,class\n2,1\n3,2\n")
    assert read_label_map(rows) == ({2: 1, 3: 2}, ())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"2": 1, "3": 3}', "without gaps"),
        ("a.json", '{"white": [2], "cortex": [2]}', "stands in two classes"),
        ("a.json", "[1, 2]", "not a label map"),
        ("a.json", "{oops", "not a label map"),
        ("a.json", "{}", "without gaps"),
        ("a.csv", "number,kind\n1,2\n", "not a label map"),
        ("a.csv", "value,class\n1,1\n1,2\n", "stands in two rows"),
        ("a.csv", "value,class\n1,x\n", "not a label map"),
        ("missing.json", None, "No such file"),
    ],
)
def test_bad_files_are_named(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_label_map(path)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_bare_name_is_a_shipped_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table, names = read_label_map("freesurfer")
    assert table[2] == table[41] == names.index("white_matter") == 1
    for name in ("synthseg:cpu", "paddit:cpu,data=label_maps", "heldout_contrast:cpu"):
        assert load_config(name).data.label_map == "freesurfer"  # no path of this machine
    with pytest.raises(DataError, match="none of the shipped ones"):
        read_label_map("freesurfing")
    (tmp_path / "freesurfer").write_text('{"7": 1}')
    assert read_label_map("freesurfer") == ({7: 1}, ())  # the user's file goes first


def test_class_table():
    assert class_table([0, 4, 1]) == ({0: 0, 1: 1, 4: 2}, ("background", "label 1", "label 4"))
    assert class_table([1], label_names={0: "background", 1: "a", 3: "b"}) == (
        {0: 0, 1: 1, 3: 2},
        ("background", "a", "b"),
    )
    table, names = class_table([1], label_names={0: "background", 1: "a"}, label_map={7: 1, 8: 2})
    assert table == {7: 1, 8: 2} and names == ("background", "class 1", "class 2")
    assert class_table([0, 1], class_names=["background", "liver"])[1] == ("background", "liver")
    with pytest.raises(DataError, match="3 class names for 2 classes"):
        class_table([0, 1], class_names=["background", "a", "b"])
    with pytest.raises(DataError, match="without gaps"):
        label_map.check_label_map({3: -1})
