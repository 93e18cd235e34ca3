"""Arms that mix real and synthetic images, and the experiments made of them: who sees what."""

import dataclasses
import time

import numpy as np
from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import build_sources
from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.sources import in_memory
from jaxmedgen.experiments.arms import ArmInputs
from jaxmedgen.experiments.synthetic import arms, generator_sources
from jaxmedgen.experiments.synthetic.anatomy import keep
from jaxmedgen.experiments.synthetic.generator_sources import ready
from jaxmedgen.experiments.synthetic.known_generators import Degraded, OracleGenerator
from jaxmedgen.experiments.synthetic.setting import Setting
from jaxmedgen.experiments.synthetic.synthetic_set import Recipe
from jaxmedgen.experiments.synthetic.usability import EXPERIMENTS
from jaxmedgen.systems.base import build_system


def test_arms_show_what_they_say(hearts, tmp_path):
    inputs = ArmInputs(
        ConfigDict(), hearts, tmp_path / "arm", 3, tmp_path / "models" / "n6" / "seed3"
    )
    made = arms.Synthetic(ready(OracleGenerator()), arms.times(2), Recipe(keep, "none", "random"))

    def source(arm):
        return arm.prepare(inputs).source

    mixed = source(arms.mixture_arm("", preset="classic", synthetic=made))
    assert len(mixed) == 18
    assert np.allclose([r["image"].mean() for r in mixed.records], 0, atol=1e-5)
    assert np.allclose([r["image"].std() for r in mixed.records], 1, atol=1e-4)
    assert np.array_equal(mixed[2]["label"], hearts[2]["label"])
    balanced = source(arms.mixture_arm("", preset="classic", synthetic=made, share=0.5))
    names = balanced.info.case_names
    assert sum(n.startswith("synthetic") for n in names) * 2 == len(names)
    alone = source(
        arms.mixture_arm(
            "", preset="classic", real=False, synthetic=dataclasses.replace(made, count=lambda n: 5)
        )
    )
    assert all(n.startswith("synthetic") for n in alone.info.case_names) and len(alone) == 5
    collapsed = OracleGenerator()
    object.__setattr__(collapsed, "warnings", ("samples hardly vary",))
    shown = arms.mixture_arm(
        "", preset="classic", synthetic=dataclasses.replace(made, generator=ready(collapsed))
    )
    assert shown.prepare(inputs).warnings == ("samples hardly vary",)
    again = source(arms.duplicated_arm("", preset="none", copies=2))
    assert len(again) == 18 and set(again.info.case_names) == set(hearts.info.case_names)
    warped = source(arms.warped_arm("", preset="none", count=arms.times(1)))
    assert len(warped) == 12
    assert arms.to(10)(4) == 6 and arms.to(3)(4) == 0
    changes = arms.mixture_arm("", preset="none").prepare(inputs).changes
    assert set(changes) == {"augment.preset", "augment.synthesis_probability"}  # never the steps


class Priced(OracleGenerator):
    """A trained generator, as far as its cost is told."""

    seconds = 12.0


def test_every_arm_counts_the_whole_cost_of_its_generator(hearts, tmp_path, monkeypatch):
    """Whichever of them has trained it; and no model, no cost but the time that it took."""

    def cost(generator):
        made = arms.Synthetic(generator, arms.times(1), Recipe(keep, "none", "random"))
        inputs = ArmInputs(ConfigDict(), hearts, tmp_path / "arm", 3, tmp_path / "models" / "a")
        return arms.mixture_arm("", preset="none", synthetic=made).prepare(inputs).seconds

    assert cost(ready(Priced())) == 12 and cost(ready(Degraded(Priced(), "noisy"))) == 12
    assert cost(ready(OracleGenerator())) is None
    trained = []

    def train(config, source, folder):
        trained.append(folder)
        if len(trained) == 1:
            time.sleep(0.2)
            folder.mkdir(parents=True)
            (folder / "metrics.jsonl").write_text("")
        return build_system(config, source.info), {}

    monkeypatch.setattr(generator_sources, "train_model", train)
    make = generator_sources.trained_on("cardiac_synthesis:cpu")
    first, second = (make(hearts, tmp_path / "generator", 0).seconds for _ in range(2))
    assert len(trained) == 2 and first == second >= 0.2


def test_an_honest_generator_sees_the_runs_subjects_alone(hearts, tmp_path):
    seen = []

    def spy(labelled, folder, seed):
        seen.append((labelled.info.case_names, folder.name, seed))
        return OracleGenerator()

    pool = in_memory(HeartSlices(9, seed=2, vendors=("A", "B")))
    inputs = ArmInputs(
        ConfigDict(), hearts, tmp_path / "arm", 1, tmp_path / "models" / "n6" / "seed1"
    )
    for synthetic in (
        arms.Synthetic(spy, arms.times(1)),
        arms.Synthetic(spy, arms.times(1), pool=pool),
    ):
        arms.mixture_arm("", preset="none", synthetic=synthetic).prepare(inputs)
    assert seen[0] == (hearts.info.case_names, "generator", 1)
    assert seen[1] == (pool.info.case_names, "seed1", 1)


def test_every_experiment_has_a_reference_and_honest_arms():
    for name, plan in EXPERIMENTS.items():
        config = load_config(f"synthetic_data_evaluation:cpu,experiment={name}")
        with config.unlocked():
            config.data.train, config.data.validation, config.data.test = 10, 0, 1
        setting = Setting(config, build_sources(config.data), ready(OracleGenerator()))
        parts = plan(setting)
        assert "real" in parts[0].arms
        every = [arm for part in parts for arm in part.arms]
        assert len(every) >= 4 and len(set(every)) == len(every)
        groups = {tuple(n.split("-")[:2]) for n in setting.sources.test.info.case_names}
        data = config.data
        assert groups == {(v, d) for v in data.test_vendors for d in data.test_diseases}
        assert setting.sources.test.info.class_names == config.data.target_names
