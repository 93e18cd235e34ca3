"""Do synthetic images help? The experiments on a downstream segmenter, as studies.

``augmentation``: real images with synthetic ones against conventional augmentation and controls of
the same count. ``reduction``: fewer and fewer real subjects, with and without synthetic ones in
their place. ``domain_shift``: one vendor in training, others in the test. ``pathology``: diseases
that the training subjects hardly have. ``outliers``: subjects at the tails rendered more often.
``agreement``: checkpoints of a training and generators of known faults, for comparing metrics with
use.

Each is a list of parts for `running.run_experiment`; all take any generator (`generators`).
Sources: Amirrajab et al. (MICCAI 2020; CMIG 101, 2022; MELBA 2023:010), Al Khalil et al. (MedIA 84,
2023).
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.phantoms.short_axis_stack import DISEASES
from jaxmedgen.data.sources import Source
from jaxmedgen.experiments.arms import Arm
from jaxmedgen.experiments.synthetic.agreement import generators_of
from jaxmedgen.experiments.synthetic.anatomy import Deformation, deformation_of, pathology
from jaxmedgen.experiments.synthetic.arms import (
    Synthetic,
    duplicated_arm,
    mixture_arm,
    times,
    to,
    warped_arm,
)
from jaxmedgen.experiments.synthetic.selection import rare_groups, size_tails
from jaxmedgen.experiments.synthetic.setting import REAL, Part, Setting
from jaxmedgen.metrics.cardiac import check_heart_order


def augmentation(setting: Setting) -> tuple[Part, ...]:
    """Real images with synthetic ones, against augmentation alone and two controls."""
    preset, ratios = setting.preset, tuple(setting.config.experiment.ratios)
    own, varied = setting.recipe("own"), setting.recipe("random")
    arms = {REAL: mixture_arm("real images, conventional augmentation", preset=preset)}
    for ratio in ratios:
        arms[f"real+synthetic 1:{ratio}"] = mixture_arm(
            f"with {ratio} synthetic images of random style for each real one",
            preset=preset,
            synthetic=setting.synthetic(times(ratio), varied),
        )
    most = max(ratios)
    arms[f"real+synthetic 1:{most}, half real"] = mixture_arm(
        "the same, every other sample a real one",
        preset=preset,
        synthetic=setting.synthetic(times(most), varied),
        share=0.5,
    )
    arms[f"real+synthetic 1:{most}, own style"] = mixture_arm(
        "synthetic images in the style of their subjects",
        preset=preset,
        synthetic=setting.synthetic(times(most), own),
    )
    arms["real+warped"] = warped_arm(
        f"control: {most} elastic warps of each real image", preset=preset, count=times(most)
    )
    arms["real+duplicated"] = duplicated_arm(
        f"control: every real image {most} times more", preset=preset, copies=most
    )
    arms["real, no augmentation"] = mixture_arm("real images as they are", preset="none")
    arms[f"real+synthetic 1:{most}, no augmentation"] = mixture_arm(
        "real and synthetic images as they are",
        preset="none",
        synthetic=setting.synthetic(times(most), varied),
    )
    return (Part(arms, (setting.config.experiment.labelled,)),)


def reduction(setting: Setting) -> tuple[Part, ...]:
    """Real subjects taken away, and synthetic ones put in their place."""
    size, preset = len(setting.pool), setting.preset
    fractions = sorted(setting.config.experiment.fractions)
    budgets = tuple(sorted({max(1, round(f * size)) for f in fractions}))
    fewer = tuple(b for b in budgets if b < size)
    own = setting.recipe("own")
    knowing = setting.synthetic(to(size), own, pool=setting.pool)
    source = "label maps and a generator of the same real subjects (honest)"
    if setting.ready:
        source = "label maps of the same real subjects; the ready generator may have seen all"

    def filled(count: Callable[[int], int], synthetic: Synthetic | None = None) -> Arm:
        to_200 = ", to 200 %" if count(0) > size else ""
        text = f"filled up{to_200} with {source}"
        if synthetic is not None:
            text = f"filled up{to_200} by a generator of all real subjects, which the segmenter "
            text += "does not see (leak)"
        made = synthetic or setting.synthetic(count, own)
        return mixture_arm(text, preset=preset, synthetic=made)

    twice = setting.synthetic(to(2 * size), own, pool=setting.pool)
    arms = {
        "real+synthetic": filled(to(size)),
        "real+synthetic, full generator": filled(to(size), knowing),
        "real+synthetic, full generator, to 200 %": filled(to(2 * size), twice),
    }
    # All real subjects with as many synthetic ones, too.
    more = {"real+synthetic, to 200 %": filled(to(2 * size))}
    none = mixture_arm(
        "no real image; label maps and generator of all real subjects",
        preset=preset,
        real=False,
        synthetic=setting.synthetic(lambda real: size, own, pool=setting.pool),
    )
    return (
        Part({REAL: mixture_arm("real images", preset=preset)}, budgets),
        Part(arms, fewer),
        Part(more, budgets),
        Part({"synthetic only": none}, (size,)),
    )


def domain_shift(setting: Setting) -> tuple[Part, ...]:
    """One vendor in training; synthetic images in its own, another, the target's, all styles."""
    options = setting.config.experiment
    preset, most, target = setting.preset, max(options.ratios), options.target_vendor
    arms = {REAL: mixture_arm("real images of the training vendor", preset=preset)}
    vendors = tuple(setting.config.data.get("test_vendors", ()))
    known = (*setting.config.data.get("train_vendors", ()), target)
    second = next((v for v in vendors if v not in known), "")
    styles = {"own style": "own", f"vendor {second}": second, f"vendor {target}": target}
    styles = {name: style for name, style in styles.items() if style} | {"random styles": "random"}
    for name, style in styles.items():
        arms[f"real+synthetic, {name}"] = mixture_arm(
            f"with {most} synthetic images a real one: {name}",
            preset=preset,
            synthetic=setting.synthetic(times(most), setting.recipe(style)),
        )
    if len(vendors) > 1:
        other = dataclasses.replace(setting.recipe("random"), style="other", vendors=vendors)
        arms["real+synthetic, all vendors"] = mixture_arm(
            "with synthetic images in the styles of all other vendors",
            preset=preset,
            synthetic=setting.synthetic(times(most), other),
        )
    return (Part(arms, (options.labelled,)),)


def pathology_synthesis(setting: Setting) -> tuple[Part, ...]:
    """Diseases that training subjects hardly have, from label maps of healthy ones."""
    options = setting.config.experiment
    preset, most = setting.preset, max(options.ratios)
    sick = setting.recipe("own", diseased(setting))
    synthetic = setting.synthetic(times(most), sick)
    arms = {
        REAL: mixture_arm("real images, mostly healthy", preset=preset),
        "real+pathology": mixture_arm(
            "with hearts given the shape of diseases", preset=preset, synthetic=synthetic
        ),
        "real+healthy synthesis": mixture_arm(
            "control: as many synthetic images without diseases",
            preset=preset,
            synthetic=setting.synthetic(times(most), setting.healthy()),
        ),
    }
    if setting.config.data.kind == "heart_slices":
        data = setting.config.data
        second = HeartSlices(
            options.labelled, tuple(data.shape), data.seed + 1, 0, ("B",), DISEASES
        )
        arms["two cohorts"] = mixture_arm(
            "with a second real cohort: vendor B, all diseases", preset=preset, more=second
        )
        arms["two cohorts+pathology"] = mixture_arm(
            "both", preset=preset, more=second, synthetic=synthetic, control="two cohorts"
        )
    return (Part(arms, (options.labelled,)),)


def diseased(setting: Setting) -> Deformation:
    """Hearts with diseases: of the configured model of label maps, or else stretched by rule.

    Raises:
        ValueError: volumes without a model, or a model that has seen held-out subjects.
    """
    folder = setting.config.experiment.deformation.partition(":")[0]
    info = setting.sources.info
    if pathlib.Path(folder).is_dir():
        return deformation_of(
            f"{folder}:pathology", info.spacing, setting.held_out, info.class_names
        )
    check_heart_order(info.class_names)
    if len(info.spacing) != 2:
        raise ValueError(
            "diseases of volumes are those of a model of label maps: give its folder "
            "(--config.experiment.deformation=work/label_vae)"
        )
    return pathology(tuple(d for d in DISEASES if d != "NOR"))


def outliers(setting: Setting) -> tuple[Part, ...]:
    """Label maps at the tails of size, or of rare diseases, rendered more often than others."""
    options = setting.config.experiment
    preset, most, own = setting.preset, max(options.ratios), setting.recipe("own")

    def arm(description: str, chosen: Callable[[Source], Sequence[int]] | None) -> Arm:
        synthetic = setting.synthetic(times(most), own, chosen=chosen)
        return mixture_arm(description, preset=preset, synthetic=synthetic)

    arms = {
        REAL: mixture_arm("real images", preset=preset),
        "real+synthetic": arm("with synthetic images of all subjects", None),
        "real+synthetic, sizes' tails": arm(
            "of the subjects with the smallest and largest structures", size_tails
        ),
    }
    if options.disease_pattern:
        arms["real+synthetic, rare diseases"] = arm(
            "of the subjects with the rarer diseases", rare_groups(options.disease_pattern)
        )
    return (Part(arms, (options.labelled,)),)


def agreement(setting: Setting) -> tuple[Part, ...]:
    """Segmenters trained on the images of generators of different quality alone."""
    size, preset, own = len(setting.pool), setting.preset, setting.recipe("own")
    arms = {REAL: mixture_arm("real images", preset=preset)}
    for name, generator in generators_of(setting).items():
        synthetic = dataclasses.replace(
            setting.synthetic(lambda real: size, own, pool=setting.pool), generator=generator
        )
        arms[name] = mixture_arm(
            f"synthetic images alone, generator {name}",
            preset=preset,
            real=False,
            synthetic=synthetic,
        )
    return (Part(arms, (size,)),)


EXPERIMENTS: Mapping[str, Callable[[Setting], tuple[Part, ...]]] = {
    "augmentation": augmentation,
    "reduction": reduction,
    "domain_shift": domain_shift,
    "pathology": pathology_synthesis,
    "outliers": outliers,
    "agreement": agreement,
}
