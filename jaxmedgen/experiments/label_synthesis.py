"""Synthetic subjects: label stacks from the latent space of the training subjects.

Four ways (Amirrajab et al., MELBA 2023:010): more slices of a subject, hearts between two subjects,
rare attributes, diseases. Every subject comes with a record of what it was made of, and only of
training subjects. `rendered` gives each an image a vendor, all with the same labels.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm

from jaxmedgen.data.stacks import Stack
from jaxmedgen.experiments.label_space import LabelSpace, equalised_indices
from jaxmedgen.metrics.cardiac import INDICES, ClinicalIndices, clinical_indices
from jaxmedgen.metrics.plausibility import IndexRange, plausible_share
from jaxmedgen.ops.correlated_normal import Correlate, draw_latents, latent_statistics
from jaxmedgen.ops.latent_paths import (
    SLICES,
    interpolate_latents,
    reach_attribute,
    regress_attribute,
)

Method = Literal["equalised", "between", "pathology", "targeted"]
METHODS: tuple[Method, ...] = ("equalised", "between", "pathology", "targeted")

HEALTHY = "NOR"


@dataclasses.dataclass(frozen=True)
class SyntheticSubject:
    """A label stack and where it comes from.

    Attributes:
        label: classes ``[n, h, w]``, uint8, base first.
        spacing: mm; between slices the sources' extent over n - 1.
        sources: names of the training subjects it was made of.
        t: place on the path between them: 0 the first, 1 the second or the pseudo-subject.
        method: one of `METHODS`, or an operator of `label_operators`.
        seed: of its draws.
        disease: that is meant, "" for none.
        plausible_slices: share of slices whose topology is a heart's.
        within_range: whether clinical indices are those of equalised training subjects (1 to 99 %).
        vendor: whose style it was rendered in, "" for labels alone.
        phase: of its sources, "" where it is not known.
    """

    label: np.ndarray
    spacing: tuple[float, float, float]
    sources: tuple[str, ...]
    t: float
    method: Method | str
    seed: int
    disease: str = ""
    plausible_slices: float = 1.0
    within_range: bool = True
    vendor: str = ""
    phase: str = ""

    def record(self) -> dict[str, object]:
        """All but the label map, for a JSON file."""
        return {name: value for name, value in vars(self).items() if name != "label"}


@dataclasses.dataclass(frozen=True)
class Population:
    """The training subjects in the latent space.

    Attributes:
        space: of the trained model.
        stacks: training subjects.
        latents: of each, equalised, ``[m, n, d]``.
        indices: clinical indices of each, equalised as the subjects that are made.
        range: of the indices.
    """

    space: LabelSpace
    stacks: tuple[Stack, ...]
    latents: Float[np.ndarray, "m n d"]
    indices: tuple[ClinicalIndices, ...]
    range: IndexRange

    def members(self, group: str) -> np.ndarray:
        """Numbers of the subjects of a group.

        Raises:
            ValueError: fewer than two.
        """
        found = np.flatnonzero([stack.group == group for stack in self.stacks])
        if len(found) < 2:
            known = sorted({stack.group for stack in self.stacks})
            raise ValueError(
                f"{len(found)} training subjects of group '{group}': known are {known}"
            )
        return found

    @property
    def phases(self) -> tuple[str, ...]:
        """Those that occur."""
        return tuple(sorted({stack.phase for stack in self.stacks}))

    def of_phase(self, phase: str) -> "Population":
        """The subjects in one phase: hearts at end diastole and end systole are two populations.

        Raises:
            ValueError: fewer than two of them.
        """
        kept = [i for i, stack in enumerate(self.stacks) if stack.phase == phase]
        if len(kept) < 2:
            known = ", ".join(p or "none" for p in self.phases)
            raise ValueError(f"{len(kept)} training stacks in phase '{phase}': known are {known}")
        indices = tuple(self.indices[i] for i in kept)
        return dataclasses.replace(
            self,
            stacks=tuple(self.stacks[i] for i in kept),
            latents=self.latents[kept],
            indices=indices,
            range=IndexRange.of(indices),
        )

    @property
    def slices(self) -> int:
        """Of an equalised stack."""
        return self.space.shape[0] if self.space.volumes else self.latents.shape[1]

    def extent(self, *numbers: int) -> tuple[float, float, float]:
        """Spacing of an equalised stack as long as the given subjects' mean."""
        chosen = [self.stacks[i] for i in numbers]
        length = np.mean([(len(s.label) - 1) * s.spacing[0] for s in chosen])
        return (float(length) / (self.slices - 1), *chosen[0].spacing[1:])


def measure_population(
    space: LabelSpace,
    stacks: Sequence[Stack],
    count: int = SLICES,
    rng: np.random.Generator | None = None,
) -> Population:
    """Embeds the training subjects.

    Args:
        space: of a trained model.
        stacks: that it was trained on; those with one slice cannot be equalised and are left out.
        count: slices of the equalised stacks.
        rng: draws from posteriors instead of taking their means.
    """
    kept = tuple(stack for stack in stacks if len(stack.label) > 1)
    slices = space.shape[0] if space.volumes else count
    indices = tuple(equalised_indices(s.label, s.spacing, slices) for s in kept)
    latents = np.stack([space.embed(stack, count, rng) for stack in kept])
    return Population(space, kept, latents, indices, IndexRange.of(indices))


def synthesise(
    population: Population,
    method: Method | str,
    seed: int,
    *,
    disease: str = "",
    phase: str = "",
    correlate: Correlate | str = "moments",
    t: float | None = None,
    percentile: float | int = 97.5,
    attribute: str = "lv_volume",
    spherical: bool = False,
) -> SyntheticSubject:
    """One new subject.

    Args:
        population: of the training subjects.
        method: ``equalised``: a subject in more slices; ``between``: a point between two;
            ``pathology``: a healthy subject on its way to a pseudo-subject of a disease;
            ``targeted``: a subject moved until an attribute has a rare value.
        seed: of all draws.
        disease: group of ``pathology``; by default one that is not healthy.
        phase: of all subjects that have a part in it; by default, where phases are mixed, one that
            is drawn.
        correlate: how a pseudo-subject's slices go together, see `draw_latents`.
        t: place on the path; by default uniform in (0, 1), and 1 for ``pathology``.
        percentile: of ``targeted``: of the attribute over the training subjects, a normal
            distribution beyond them.
        attribute: of ``targeted``, one of `metrics.cardiac.INDICES`.
        spherical: interpolates on arcs.

    Raises:
        ValueError: an unknown method or attribute, or no subjects of the group.
    """
    if method not in METHODS:
        raise ValueError(f"method '{method}': choose one of {', '.join(METHODS)}")
    rng = np.random.default_rng(seed)
    if phase or len(population.phases) > 1:
        population = population.of_phase(phase or str(rng.choice(population.phases)))
    first, second = (int(i) for i in rng.choice(len(population.stacks), 2, replace=False))
    way = "spherical" if spherical else "linear"
    if method == "equalised":
        return finish(population, population.latents[first], (first,), 0.0, method, seed)
    if method == "between":
        t = float(rng.uniform()) if t is None else t
        ends = (population.latents[first], population.latents[second])
        latents = interpolate_latents(*ends, t, way)
        return finish(population, latents, (first, second), t, method, seed)
    if method == "targeted":
        latents, _ = target_attribute(population, first, attribute, percentile)
        return finish(population, latents, (first,), 1.0, method, seed)
    groups = sorted({stack.group for stack in population.stacks} - {HEALTHY})
    disease = disease or str(rng.choice(groups))
    t = 1.0 if t is None else t
    healthy = population.members(HEALTHY)
    start = int(rng.choice(healthy))
    statistics = latent_statistics(
        population.latents[population.members(disease)], population.latents[healthy]
    )
    end = draw_latents(rng, statistics, 1, correlate)[0]
    latents = interpolate_latents(population.latents[start], end, t, way)
    return finish(population, latents, (start,), t, method, seed, disease)


def target_attribute(
    population: Population, number: int, attribute: str, percentile: float | int
) -> tuple[Float[np.ndarray, "n d"], float]:
    """A subject moved until an attribute reaches a percentile of the equalised training subjects'.

    Args:
        population: of the training subjects.
        number: of the subject.
        attribute: one of `metrics.cardiac.INDICES`.
        percentile: between 0 and 100; of a normal distribution with the subjects' mean and
            deviation, so that tails beyond them can be asked for.

    Returns:
        Latents and the attribute that they have, decoded.

    Raises:
        ValueError: an unknown attribute, or a percentile outside (0, 100).
    """
    if attribute not in INDICES or not 0 < percentile < 100:
        raise ValueError(
            f"attribute '{attribute}' at {percentile} %: choose one of {', '.join(INDICES)}, and a "
            "percentile between 0 and 100"
        )
    values = np.asarray([getattr(i, attribute) for i in population.indices])
    direction = regress_attribute(population.latents, values)
    target = values.mean() + values.std(ddof=1) * norm.ppf(percentile / 100)
    spacing = population.extent(number)

    def measure(latents):
        found = clinical_indices(population.space.stack(latents), spacing)
        return float(np.nan_to_num(getattr(found, attribute)))

    return reach_attribute(population.latents[number], direction, float(target), measure)


def finish(
    population: Population,
    latents: Float[np.ndarray, "n d"],
    numbers: Sequence[int],
    t: float,
    method: Method | str,
    seed: int,
    disease: str = "",
) -> SyntheticSubject:
    """Decodes latents and checks what they give."""
    label = population.space.stack(latents)
    spacing = population.extent(*numbers)
    return SyntheticSubject(
        label=label.astype(np.uint8),
        spacing=spacing,
        sources=tuple(population.stacks[i].name for i in numbers),
        t=float(t),
        method=method,
        seed=seed,
        disease=disease,
        plausible_slices=plausible_share(label),
        within_range=population.range.contains(clinical_indices(label, spacing)),
        phase=population.stacks[numbers[0]].phase,
    )


Renderer = Callable[[Int[np.ndarray, "n h w"]], Float[np.ndarray, "n h w c"]]
"""A generator of images with one style for all slices of a subject."""


def rendered(
    subject: SyntheticSubject, vendors: Mapping[str, Renderer]
) -> dict[str, tuple[SyntheticSubject, Float[np.ndarray, "n h w c"]]]:
    """The same labels in the style of every vendor: paired subjects.

    Args:
        subject: label stack.
        vendors: a renderer each; it takes one style code for the whole stack, never one a slice.
    """
    label = subject.label.astype(np.int32)
    return {
        name: (dataclasses.replace(subject, vendor=name), render(label))
        for name, render in vendors.items()
    }
