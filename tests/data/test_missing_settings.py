"""Kinds of data that a configuration has no settings for."""

import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.missing_settings import missing_settings_told


@pytest.mark.parametrize(
    ("kind", "home"),
    [("lesions", "augmentations"), ("rotated_lesions", "gcnn_unet"), ("hemispheres", "genseg")],
)
def test_the_setting_and_its_configuration_are_named(kind, home):
    data = load_config("unet:cpu", {"data.kind": kind}).data
    with pytest.raises(
        ValueError, match=rf"data.kind='{kind}' needs .* use configs/{home}.py"
    ) as told:
        build_sources(data)
    key = str(told.value).split("data.")[2].split(",")[0]
    assert key not in data and key in load_config(f"{home}:cpu").data


def test_other_errors_are_left_alone():
    @missing_settings_told
    def broken(data):
        return data.shape.colour

    with pytest.raises(AttributeError, match="colour"):
        broken(load_config("unet:cpu").data)
