"""Arms of a study that train on real and synthetic images in given parts.

Every arm trains the same network for the same number of steps with the same augmentation: adding
images never adds steps. Two controls have as many images as an arm with synthetic ones: the real
images again, and warps of them.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.data.sources import ArraySource, Source, Standardized, in_memory, joined, subset
from jaxmedgen.experiments.arms import Arm, ArmInputs, ArmTraining
from jaxmedgen.experiments.synthetic.anatomy import keep
from jaxmedgen.experiments.synthetic.generator_sources import GeneratorFor, ready
from jaxmedgen.experiments.synthetic.known_generators import WarpGenerator
from jaxmedgen.experiments.synthetic.synthetic_set import Recipe, build_set
from jaxmedgen.train.environment import write_json

Count = Callable[[int], int]
"""Number of synthetic images for a number of real subjects."""


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """The synthetic images of an arm.

    Attributes:
        generator: makes the generator from the subjects that it may see.
        count: how many images.
        recipe: deformation and style; the run's seed takes the place of its own.
        pool: subjects whose label maps are rendered and that the generator is made from, where
            they are not the run's labelled ones: the generator then knows more than the segmenter.
        own_subjects: with `pool`, whether label maps still are those of the labelled subjects.
        chosen: of these subjects, which are rendered (say the tails); all by default.
        vendor_pattern: regular expression of the vendor in the names of cases, or "".
    """

    generator: GeneratorFor
    count: Count
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    pool: Source | None = None
    own_subjects: bool = False
    chosen: Callable[[Source], Sequence[int]] | None = None
    vendor_pattern: str = ""


def to(total: int) -> Count:
    """Synthetic images that fill the real ones up to `total`."""
    return lambda real: max(0, total - real)


def times(ratio: int) -> Count:
    """`ratio` synthetic images for each real one."""
    return lambda real: ratio * real


def mixture_arm(
    description: str,
    *,
    preset: str,
    synthetic: Synthetic | None = None,
    real: bool = True,
    more: Source | None = None,
    share: float | None = None,
    control: str = "",
) -> Arm:
    """An arm that trains on real images, synthetic ones, or both.

    Args:
        description: one line for the report.
        preset: augmentation of all images, real and synthetic.
        synthetic: the synthetic images, if any.
        real: whether the run's labelled subjects are shown.
        more: further real subjects.
        share: part of the samples that are real, by repeating images; None shows each image
            equally often.
        control: the arm that is the same without synthetic images, where it is not the reference.
    """

    def prepare(inputs: ArmInputs) -> ArmTraining:
        shown = [inputs.labelled] if real else []
        shown += [] if more is None else [more]
        parts, warnings = [joined([_plain(s) for s in shown])] if shown else [], ()
        seconds = None
        if synthetic is not None:
            made, warnings, seconds = _make(synthetic, inputs, sum(len(s) for s in shown))
            parts += [] if made is None else [made]
        if not parts:
            raise ValueError(f"arm '{description}' shows neither real nor synthetic images")
        if share is not None and len(parts) == 2:
            parts = _balanced(*parts, share)
        source = in_memory(Standardized(joined(parts)))
        settings = {"augment.preset": preset, "augment.synthesis_probability": 0.0}
        return ArmTraining(settings, seconds=seconds, warnings=warnings, source=source)

    return Arm(description, prepare, control=control)


def duplicated_arm(description: str, *, preset: str, copies: int) -> Arm:
    """A control: every real image `copies` times more, so that numbers of images are equal."""

    def prepare(inputs: ArmInputs) -> ArmTraining:
        again = subset(_plain(inputs.labelled), [*range(len(inputs.labelled))] * (1 + copies))
        settings = {"augment.preset": preset, "augment.synthesis_probability": 0.0}
        return ArmTraining(settings, source=in_memory(Standardized(again)))

    return Arm(description, prepare)


def warped_arm(description: str, *, preset: str, count: Count) -> Arm:
    """A control: as many fixed elastic warps of the real images as others have synthetic ones."""

    def prepare(inputs: ArmInputs) -> ArmTraining:
        spacing = inputs.labelled.info.spacing
        warps = Synthetic(ready(WarpGenerator(tuple(spacing))), count, Recipe(keep, "none"))
        return mixture_arm(description, preset=preset, synthetic=warps).prepare(inputs)

    return Arm(description, prepare)


def _make(
    synthetic: Synthetic, inputs: ArmInputs, real: int
) -> tuple[Source | None, tuple[str, ...], float | None]:
    """The synthetic images of one run, and what the generator's training said of itself and cost.

    The cost is None of a generator that was not trained here. The images' manifest goes to the
    arm's folder.
    """
    count = synthetic.count(real)
    if count == 0:
        return None, (), None
    seen = inputs.labelled if synthetic.pool is None else synthetic.pool
    folder = inputs.shared / "generator"
    if synthetic.pool is not None:
        folder = inputs.shared.parent.parent / "pool" / f"seed{inputs.seed}"
    generator = synthetic.generator(seen, folder, inputs.seed)
    subjects = inputs.labelled if synthetic.own_subjects else seen
    if synthetic.chosen is not None:
        subjects = subset(subjects, synthetic.chosen(subjects))
    names, pattern = subjects.info.case_names, synthetic.vendor_pattern
    made = build_set(
        subjects,
        generator,
        dataclasses.replace(synthetic.recipe, seed=inputs.seed),
        count,
        groups=groups_of(names, pattern) if pattern else None,
    )
    write_json(pathlib.Path(inputs.workdir) / "synthetic.json", dict(made.manifest))
    # Every arm that uses a generator counts its whole cost, whichever of them has trained it.
    said, seconds = getattr(generator, "warnings", ()), getattr(generator, "seconds", None)
    return made.source, tuple(said), seconds


def _balanced(real: Source, synthetic: Source, share: float) -> list[Source]:
    """Both repeated whole times so that about `share` of all images are real."""
    if not 0 < share < 1:
        raise ValueError(f"share={share} of real images must lie between 0 and 1")
    odds = share / (1 - share) * len(synthetic) / len(real)
    again, more = max(1, round(odds)), max(1, round(1 / odds))
    return [
        subset(real, [*range(len(real))] * again),
        subset(synthetic, [*range(len(synthetic))] * more),
    ]


def _plain(source: Source) -> ArraySource:
    """Image and label alone: synthetic images have no more."""
    records = [{k: source[i][k] for k in ("image", "label")} for i in range(len(source))]
    return ArraySource(records, source.info)
