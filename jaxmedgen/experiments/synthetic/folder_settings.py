"""The experiments on a user's folder: what it must tell of its cases, and who trains and tests."""

import dataclasses
from collections import Counter
from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from jaxmedgen.data.build import Sources
from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.data.sources import Source, in_memory, subset
from jaxmedgen.experiments.synthetic.generators import StyleBank

NEEDED = {"domain_shift": "vendor_pattern", "pathology": "disease_pattern"}
"""What an experiment cannot do without."""

SCAR = ("background", "lv_blood", "myocardium", "scar")


def configure(name: str, config: ConfigDict, overrides: Mapping[str, str]) -> None:
    """Fits a configuration of the phantoms to a folder, in place.

    Patterns of the phantoms' names are forgotten unless the user gave them.

    Args:
        name: of the experiment.
        config: with ``data.kind=folder``.
        overrides: settings of the command line.

    Raises:
        ValueError: the experiment needs a pattern or table that is not given.
    """
    options = config.experiment
    with config.unlocked():
        # The labels of a folder are what is predicted.
        config.data.target_of, config.data.target_names = (), ()
        for key in ("vendor_pattern", "disease_pattern"):
            if f"experiment.{key}" not in overrides:
                options[key] = ""
        if name == "scar":
            config.data.target_of, config.data.target_names = tuple(range(len(SCAR))), SCAR
    needed = NEEDED.get(name)
    if needed and not options[needed]:
        what = needed.partition("_")[0]
        raise ValueError(
            f"--experiment {name} of a folder must know the {what} of every case: set "
            f"--config.experiment.{needed} to a CSV (case,{what}) or JSON table, or to a regular "
            "expression of the case names"
        )


def check_scar(sources: Sources) -> None:
    """Checks that a folder has what the scar experiment is about.

    Raises:
        ValueError: volumes, or other classes.
    """
    names = sources.train.info.class_names
    if len(names) != len(SCAR) or len(sources.info.spacing) != 2:
        raise ValueError(
            f"--experiment scar takes 2D slices with the classes {', '.join(SCAR)}; these images "
            f"have {len(sources.info.spacing)} axes and the classes {', '.join(names)}: cut them "
            "into slices, and give --config.data.label_map"
        )


def by_vendor(
    config: ConfigDict, sources: Sources, overrides: Mapping[str, str], images: int
) -> tuple[Sources, StyleBank]:
    """One vendor's subjects train and validate, test subjects are of all; a few images give styles.

    The training vendor is ``data.train_vendors``, or else the most frequent one; the target vendor
    ``experiment.target_vendor``, or else the most frequent of the others. Style images are those of
    training subjects of other vendors, which are not trained on.

    Args:
        config: changed in place: the vendors that are there.
        sources: of a folder.
        overrides: settings of the command line.
        images: style images a vendor, at most.

    Raises:
        ValueError: one vendor only, or a vendor without subjects.
    """
    groups = config.experiment.vendor_pattern
    train = groups_of(sources.train.info.case_names, groups)
    tested = groups_of(sources.test.info.case_names, groups)
    count = Counter(train)
    own = count.most_common(1)[0][0]
    if "data.train_vendors" in overrides:
        (own,) = tuple(config.data.train_vendors)
    others = [vendor for vendor, _ in Counter((*train, *tested)).most_common() if vendor != own]
    target = others[0] if others else ""
    if "experiment.target_vendor" in overrides:
        target = config.experiment.target_vendor
    if own not in count or target not in tested:
        raise ValueError(
            f"--experiment domain_shift: vendor '{own}' has {count[own]} training subjects and "
            f"vendor '{target}' {tested.count(target)} test subjects: both are needed; the folder "
            f"has {', '.join(sorted({*train, *tested}))} (data.test, experiment.target_vendor)"
        )
    with config.unlocked():
        config.data.train_vendors, config.data.test_vendors = (own,), (own, *others)
        config.experiment.target_vendor = target
    bank = {
        vendor: np.stack([r["image"] for r in _of(sources.train, train, vendor, images).records])
        for vendor in others
        if vendor in count
    }
    seen = groups_of(sources.validation.info.case_names, groups)
    return (
        dataclasses.replace(
            sources,
            train=_of(sources.train, train, own),
            validation=_of(sources.validation, seen, own),
        ),
        bank,
    )


def _of(source: Source, groups: tuple[str, ...], vendor: str, most: int | None = None):
    chosen = [i for i, group in enumerate(groups) if group == vendor]
    return in_memory(subset(source, chosen[:most]))
