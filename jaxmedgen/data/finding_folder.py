"""Folders of images of which it is known whether they hold a finding, few of them with a mask.

What GenSeg is for (Vorontsov et al., arXiv 1904.01636): an image-level label is cheap, a mask is
not. Foreground classes of the masks are the kinds of findings. A table or a pattern of case names
(``data.presence_of``) gives every image its kind, or ``absence``; without one masks must tell it.
Images with a finding and images without are shown side by side, as strangers; only images with a
mask are held out for validation and testing, and with them all others of their patients.
"""

import dataclasses
from typing import Any

import numpy as np

from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.data.folders import FolderSource
from jaxmedgen.data.semi_labelled import SemiLabelled, semi_labelled
from jaxmedgen.data.sources import DatasetInfo, Record, Source, subset
from jaxmedgen.data.splits import first_patients, patient_of, train_test_split

ABSENCE = "absence"
PRESENCE = "presence"
"""Name of the kind where there is one only; the class's own does as well."""


@dataclasses.dataclass(frozen=True)
class FindingPairs:
    """Images with and without a finding side by side, in no relation to each other.

    An epoch shows every image at least once: the fewer ones are repeated. Item i holds image with
    finding ``i mod n_P`` and image without ``i mod n_A``. Records have ``image``, ``label`` (zeros
    where there is no mask), ``absent``, and ``domain``, the number of the kind of finding.

    Attributes:
        source: all images.
        present: numbers of those with a finding.
        absent: numbers of those without.
        domains: kind of each of `present`, from 0.
    """

    source: Source
    present: tuple[int, ...]
    absent: tuple[int, ...]
    domains: tuple[int, ...]

    @property
    def info(self) -> DatasetInfo:
        """Names are those of the images with a finding, numbered: one can occur more than once."""
        names, count = self.source.info.case_names, len(self.present)
        repeated = (f"{names[self.present[i % count]]}_{i // count}" for i in range(len(self)))
        return dataclasses.replace(self.source.info, case_names=tuple(repeated))

    def __len__(self) -> int:
        count = len(self.present)
        return count * -(-max(len(self.absent), count) // count)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        number = index % len(self.present)
        record = self.source[self.present[number]]
        image = record["image"]
        return {
            "image": image,
            "label": record.get("label", np.zeros(image.shape[:-1], np.int32)),
            "absent": self.source[self.absent[index % len(self.absent)]]["image"],
            "domain": np.int32(self.domains[number]),
        }


def finding_parts(source: FolderSource, data: Any) -> tuple[Source, Source, Source]:
    """Training pairs, validation and test images of a folder, patients kept together.

    Args:
        source: images, some with a mask.
        data: a configuration's ``data`` group: ``presence_of`` as `case_groups.groups_of` takes it,
            or ""; ``labelled``, share of the training pairs that keep their masks (1 keeps all that
            there are); ``validation`` and ``test``, patients held out; ``train``, patients that
            train (0: all the others); ``seed``.

    Raises:
        ValueError: kinds that are not known or contradict the masks, no images of one side, or too
            few masks for what is to be held out.
    """
    names = source.info.case_names
    masked = {i for i, case in enumerate(source.layout.cases) if case.label is not None}
    kinds = _kinds(source, masked, data.presence_of)
    testable = [names[i] for i in sorted(masked) if kinds[i]]
    rest, held = testable, []
    for count, seed in ((data.test, data.seed), (data.validation, data.seed + 1)):
        if not count:
            held.append(())
            continue
        if count >= len({patient_of(name) for name in rest}):
            raise ValueError(
                f"data.test={data.test} and data.validation={data.validation} patients with a "
                f"finding and a mask are to be held out of {len(set(map(patient_of, testable)))}: "
                "lower them"
            )
        split = train_test_split(rest, test_count=count, seed=seed)
        rest, kept = split.train, split.test
        held.append(tuple(kept))
    away = {patient_of(name) for part in held for name in part}
    train = [name for name in names if patient_of(name) not in away]
    if data.train:
        train = first_patients(train, data.train, seed=data.seed + 2)
    number = {name: i for i, name in enumerate(names)}
    chosen = sorted(number[name] for name in train)
    present = tuple(i for i in chosen if kinds[i])
    absent = tuple(i for i in chosen if not kinds[i])
    if not present or not absent:
        raise ValueError(
            f"{len(present)} training images with a finding and {len(absent)} without: both are "
            "needed"
        )
    source = source.fitted_to(chosen)
    pairs = FindingPairs(source, present, absent, tuple(kinds[i] - 1 for i in present))
    known = [i for i in range(len(pairs)) if present[i % len(present)] in masked]
    if not known:
        raise ValueError("no training image with a finding has a mask: some are needed")
    if data.labelled < 1:
        shown: Source = semi_labelled(
            pairs, data.labelled, seed=data.seed, candidates=known, patient=_patient_of_pair
        )
    else:
        shown = SemiLabelled(pairs, frozenset(known))
    test, validation = (subset(source, [number[name] for name in part]) for part in held)
    return shown, validation, test


def _patient_of_pair(name: str) -> str:
    return patient_of(name.rsplit("_", 1)[0])


def _kinds(source: FolderSource, masked: set[int], presence_of: str) -> list[int]:
    """Of each image the class of its finding, 0 without one; checked against the masks."""
    names, classes = source.info.case_names, source.info.class_names
    inside = {i: _classes_in(source, i) for i in masked}
    if not presence_of:
        missing = [name for i, name in enumerate(names) if i not in masked]
        if missing:
            raise ValueError(
                f"{', '.join(missing[:5])} have no mask that tells whether they hold a finding: "
                "say it with data.presence_of (a table of case,presence or case,absence)"
            )
        several = [names[i] for i, found in inside.items() if len(found) > 1]
        if several:
            raise ValueError(
                f"masks of {', '.join(several[:5])} have several classes, {', '.join(classes[1:])}:"
                " merge them with data.label_map"
            )
        return [max(inside[i], default=0) for i in range(len(names))]
    number = {ABSENCE: 0} | {name: k for k, name in enumerate(classes) if k}
    if len(classes) == 2:
        number[PRESENCE] = 1
    groups = groups_of(names, presence_of)
    unknown = sorted(set(groups) - set(number))
    if unknown:
        raise ValueError(
            f"data.presence_of gives {', '.join(unknown[:5])}: the kinds are {', '.join(number)}"
        )
    kinds = [number[group] for group in groups]
    wrong = [i for i, found in inside.items() if found - {kinds[i]} or (kinds[i] and not found)]
    if wrong:
        told = ", ".join(f"{names[i]} ({groups[i]})" for i in sorted(wrong)[:5])
        raise ValueError(f"masks contradict data.presence_of: {told}")
    return kinds


def _classes_in(source: FolderSource, index: int) -> set[int]:
    """Foreground classes of an image's mask."""
    return {int(k) for k in np.unique(source[index]["label"])} - {0}
