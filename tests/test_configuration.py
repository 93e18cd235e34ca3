"""Configurations: what a user may type, and what the errors say."""

import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.configuration import ConfigError, load_config, parse_argument, set_value
from jaxmedgen.data.build import preprocessing
from jaxmedgen.data.target_spacing import target_spacing

TOP_LEVEL = {"steps", "batch_size", "seed", "checkpoint_every", "eval_every", "system"}


def example():
    return ConfigDict(
        {
            "steps": 100,
            "name": "one",
            "group": {"rate": 0.5, "on": True, "sizes": (1, 2), "open": None, "empty": ()},
        }
    ).lock()


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("steps", "7", 7),
        ("steps", "-1", -1),
        ("name", "two words", "two words"),
        ("name", "3", "3"),
        ("group.rate", "1e-3", 1e-3),
        ("group.rate", "2", 2.0),
        ("group.on", "false", False),
        ("group.on", "False", False),
        ("group.on", "true", True),
        ("group.sizes", "(4, 8, 16)", (4, 8, 16)),
        ("group.sizes", "[4, 8]", (4, 8)),
        ("group.sizes", "4", (4,)),
        ("group.empty", "(1,)", (1,)),
        ("group.open", "((0.1, 0.2),)", ((0.1, 0.2),)),
        ("group.open", "free text", "free text"),
    ],
)
def test_values_take_the_type_that_is_there(key, text, expected):
    config = example()
    set_value(config, key, text)
    found = configuration.flatten(config)[key]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("key", "text", "kind"),
    [
        ("steps", "1.5", "int"),
        ("steps", "many", "int"),
        ("steps", "True", "int"),
        ("group.rate", "fast", "float"),
        ("group.rate", "True", "float"),
        ("group.on", "1", "bool"),
        ("group.on", "maybe", "bool"),
        ("group.sizes", "wide", "tuple"),
    ],
)
def test_wrong_types_name_key_value_and_type(key, text, kind):
    config = example()
    with pytest.raises(ConfigError) as caught:
        set_value(config, key, text)
    message = str(caught.value)
    assert f"config.{key}={text!r}" in message
    assert kind in message
    assert "\n" not in message
    assert configuration.flatten(config) == configuration.flatten(example())


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("step", "config.steps"),
        ("group.rats", "config.group.rate"),
        pytest.param("rate", "config.group.rate"),
        ("grup.sizes", "config.group.sizes"),
    ],
)
def test_a_mistyped_key_names_the_nearest(typed, nearest):
    with pytest.raises(ConfigError, match="unknown key") as caught:
        set_value(example(), typed, "1")
    assert f"config.{typed}" in str(caught.value)
    assert f"did you mean '{nearest}'?" in str(caught.value)


def test_a_group_is_not_a_value():
    with pytest.raises(ConfigError, match="it is a group"):
        set_value(example(), "group", "1")


def test_argument_defaults_and_choices():
    options = {"arm": ("classic", "none")}
    assert parse_argument("", options) == {"size": "cpu", "arm": "classic"}
    assert parse_argument("gpu", options) == {"size": "gpu", "arm": "classic"}
    assert parse_argument("arm=none, pod", options) == {"size": "pod", "arm": "none"}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("gpus", "unknown value of 'size' 'gpus': did you mean 'gpu'?"),
        ("tpu", "unknown value of 'size' 'tpu'"),
        ("arm=clasic", "unknown value of 'arm' 'clasic': did you mean 'classic'?"),
        ("amr=none", "unknown option 'amr': did you mean 'arm'?"),
    ],
)
def test_argument_errors(argument, message):
    with pytest.raises(ConfigError) as caught:
        parse_argument(argument, {"arm": ("classic", "none")})
    assert message in str(caught.value)


def shipped():
    return sorted(p.stem for p in configuration.config_folder().glob("*.py") if p.stem[0] != "_")


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("size", configuration.SIZES)
def test_every_shipped_configuration_loads_at_every_size(name, size):
    argument = "" if name == "demo" else f":{size}"
    config = load_config(f"{name}{argument}")
    assert set(config) >= TOP_LEVEL
    assert config.is_locked
    assert config.batch_size > 0
    assert 0 < config.checkpoint_every <= config.steps
    document = (configuration.config_folder() / f"{name}.py").read_text()
    assert "bin/" in document.split('"""')[1], "a configuration's docstring gives its command"


def test_every_arm_of_the_unet_loads():
    presets = {
        arm: load_config(f"unet:cpu,arm={arm}").augment.preset
        for arm in ("none", "light", "classic", "diffeomorphic", "synthesis")
    }
    assert presets["diffeomorphic"] == "diffeomorphic"
    assert load_config("unet:cpu,arm=synthesis").augment.synthesis_probability == 0.5


def test_a_bare_name_a_path_and_a_users_own_file(tmp_path):
    own = tmp_path / "mine.py"
    own.write_text(
        "from jaxmedgen.configuration import load_config\n"
        "def get_config(argument=''):\n"
        "    config = load_config(f'unet:{argument}').unlock()\n"
        "    config.steps = 5\n"
        "    return config\n"
    )
    assert load_config("unet").steps == load_config(_path("unet")).steps
    assert load_config(f"{own}:gpu").steps == 5
    assert load_config(f"{own}:gpu").net.dtype == "bfloat16"
    assert load_config(str(own), {"net.features": "(4, 8)"}).net.features == (4, 8)


def test_file_errors(tmp_path):
    with pytest.raises(ConfigError, match="unknown configuration 'unett': did you mean 'unet'"):
        load_config("unett")
    with pytest.raises(ConfigError, match="unknown configuration"):
        load_config(str(tmp_path / "absent.py"))
    (tmp_path / "empty.py").write_text("steps = 3\n")
    with pytest.raises(ConfigError, match=r"no get_config\(argument\)"):
        load_config(str(tmp_path / "empty.py"))


def test_a_folder_named_like_a_configuration_is_not_read(tmp_path, monkeypatch):
    """``bin/ablate`` defaults to the name ``ablation``; a user may have a folder ablation/."""
    (tmp_path / "unet").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config("unet").steps == load_config(_path("unet")).steps


_ANISOTROPIC = (1.25, 1.25, 10.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("1.5", (1.5,) * 3), ("1,1,2", (1.0, 1.0, 2.0)), ("(2,)", (2.0,) * 3)),
        *(("(1.25,1.25,10)", _ANISOTROPIC), ("[1.25, 1.25, 10]", _ANISOTROPIC)),
        *(("median", None), ("fit", "fit"), ("native", "native")),
    ],
)
def test_a_spacing_is_a_word_or_mm(text, expected):
    """``data.spacing`` is a word, a number or one number an axis."""
    data = load_config("unet", {"data.spacing": text}).data
    data.shape = (8, 8, 8)
    assert preprocessing(data).spacing == expected


@pytest.mark.parametrize("text", ["wide", "(1,", "", "()", "1,x"])
def test_a_spacing_that_is_none_names_those_that_are(text):
    with pytest.raises(ValueError, match=r"data.spacing='.*fit, median, native"):
        preprocessing(load_config("unet", {"data.spacing": text}).data)


@pytest.mark.parametrize("value", [(1.25, 1.25, 10), [1.25, 1.25, 10.0]])
def test_a_spacing_of_numbers_is_taken_as_it_is(value):
    """As a configuration of one's own may say it, and as a stored one is read back."""
    assert target_spacing(value) == _ANISOTROPIC


def test_a_spacing_in_mm_is_set_over_any_default():
    for changes, expected in (({}, (1.0,) * 3), ({"data.spacing": "1.25,1.25,10"}, _ANISOTROPIC)):
        config = load_config("genseg:gpu,data=hemispheres", changes)
        assert preprocessing(config.data).spacing == expected


@pytest.mark.parametrize(
    "name", [*shipped(), "genseg:{},data=hemispheres", "genseg:{},data=findings"]
)
def test_every_shipped_spacing_is_understood(name):
    for size in configuration.SIZES:
        config = load_config(name.format(size) if "{}" in name else f"{name}:{size}")
        if "data" in config and "spacing" in config.data:
            found = preprocessing(config.data).spacing
            assert found in ("fit", "native", None) or min(found) > 0, (size, found)


def test_overrides_are_checked():
    assert load_config("unet", {"optimizer.learning_rate": "1e-4"}).optimizer.learning_rate == 1e-4
    with pytest.raises(ConfigError, match=r"did you mean 'config.optimizer.learning_rate'"):
        load_config("unet", {"learning_rate": "1e-4"})
    with pytest.raises(ConfigError, match=r"did you mean 'config.batch_size'"):
        load_config("unet", {"batchsize": "1"})


@pytest.mark.parametrize("name", shipped())
def test_json_round_trip(name):
    config = load_config(name)
    again = configuration.from_json(configuration.to_json(config))
    assert configuration.differences(config, again) == []
    assert again.data.shape == config.data.shape
    assert isinstance(again.data.shape, tuple)


def test_settings_of_a_newer_version_are_no_change_where_they_are_off():
    before = ConfigDict({"steps": 4, "net": {"width": 8}})
    now = ConfigDict({"steps": 4, "net": {"width": 8, "head": 0}, "augment": {"preset": "none"}})
    assert configuration.changes_since(before, now) == []
    now.net.head, now.steps = 5, 0  # a known setting that is switched off is a change
    assert configuration.changes_since(before, now) == ["net.head: None -> 5", "steps: 4 -> 0"]


def test_differences_name_key_and_both_values():
    one, other = load_config("unet"), load_config("unet", {"seed": "3", "net.dropout": "0.1"})
    assert configuration.differences(one, other) == ["net.dropout: 0.0 -> 0.1", "seed: 0 -> 3"]
    assert configuration.differences(one, one) == []


@settings(max_examples=20, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.booleans())
def test_what_repr_writes_is_read_back(number, count, on):
    config = example()
    for key, value in {"group.rate": number, "steps": count, "group.on": on}.items():
        set_value(config, key, repr(value))
        assert configuration.flatten(config)[key] == value


def _path(name) -> str:
    return str(pathlib.Path(configuration.config_folder()) / f"{name}.py")
