"""What does not fit is told before anything is trained."""

import dataclasses

import pytest

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.sources import ArraySource
from jaxmedgen.experiments.ablation import run_study
from jaxmedgen.experiments.arm_checks import check_arms
from jaxmedgen.experiments.arms import ARMS, select_arms
from jaxmedgen.experiments.study import Study
from tests.experiments.test_ablation import TINY

VOLUMES = TINY | {"data.shape": "(8, 8, 8)", "data.train": "2", "data.test": "1"}


def study(arms, spacing=(1.0, 1.0, 1.0), **changes):
    config = load_config(
        "ablation", VOLUMES | {k.replace("__", "."): v for k, v in changes.items()}
    )
    sources = build_sources(config.data)
    parts = {
        name: ArraySource(
            [dict(part[i]) for i in range(len(part))],
            dataclasses.replace(part.info, spacing=spacing),
        )
        for name in ("train", "validation", "test")
        for part in [getattr(sources, name)]
    }
    info = dataclasses.replace(sources.info, spacing=spacing)
    return Study(config, dataclasses.replace(sources, **parts, info=info), select_arms(arms),
                 budgets=(1,), seeds=1, dataset="shapes")  # fmt: skip


def test_groups_on_unequal_voxels_are_named(tmp_path):
    thick = study(["none", "octahedral"], (1.0, 1.0, 4.0))
    with pytest.raises(ValueError, match=r"^arm 'octahedral': .*spacing"):
        run_study(thick, tmp_path / "work")
    assert not (tmp_path / "work").exists()
    check_arms(study(["none", "octahedral"]))
    for spacing in ((1.0, 1.0, 4.0), (4.0, 1.0, 1.0)):  # turns within the plane of slices
        check_arms(study(["none", "c4", "gunet-turned", "gunet-averaged"], spacing))


@pytest.mark.parametrize("arm", ["itvae-mixed", "paddit+classic", "genseg"])
def test_arms_of_whole_images_are_refused_on_patches(arm):
    with pytest.raises(ValueError, match="takes whole images, not patches of \\(4, 4, 4\\)"):
        check_arms(study(["none", arm], patch_size="(4, 4, 4)"))


def test_all_that_trains_nothing_is_checked():
    quick = [name for name, arm in ARMS.items() if arm.quick and "moex" not in name]
    check_arms(study([*quick, "c4+light"]))
    assert {"none", "classic", "synthesis", "gunet-v"} < set(quick)
    assert not {"spade", "paddit", "itvae-mixed", "rhvae"} & set(quick)


def test_a_network_with_a_preset_has_its_own_control_with_it():
    arms = select_arms(["c4+light", "steerable+light", "paddit+light"])
    assert [arm.control for arm in arms.values()] == ["gunet+light", "", "light"]
