"""Every shipped configuration loads at every size and builds its system."""

import pathlib

import pytest

from jaxmedgen.configuration import SIZES, ConfigError, load_config
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.systems.base import System, build_system

NAMES = sorted(p.stem for p in (pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))
TOP_LEVEL = ("steps", "batch_size", "seed", "checkpoint_every", "eval_every", "system", "parallel")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_configuration_builds_its_system(name, size):
    config = load_config(f"{name}:{size}")
    assert all(key in config for key in TOP_LEVEL)
    names = config.data.target_names or ("background", "a", "b")
    info = DatasetInfo(tuple(names), ("t1",), (2.0, 2.0, 2.0), ())
    system = build_system(config, info)
    assert isinstance(system, System)
    assert system.net.classes == len(names)


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
