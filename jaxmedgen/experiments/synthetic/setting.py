"""What experiments on synthetic sets are made from and made of: a setting, and parts of arms."""

import dataclasses
from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from jaxmedgen.data.build import Sources
from jaxmedgen.data.sources import Source
from jaxmedgen.experiments.arms import Arm
from jaxmedgen.experiments.synthetic.anatomy import Deformation, deformation_of
from jaxmedgen.experiments.synthetic.arms import Synthetic
from jaxmedgen.experiments.synthetic.generator_sources import GeneratorFor
from jaxmedgen.experiments.synthetic.synthetic_set import Recipe

REAL = "real"
"""Name of the reference arm of every experiment."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What an experiment is made from.

    Attributes:
        config: of the segmenter's training, with the group ``experiment``.
        sources: real subjects as they are read.
        generator: makes the generator of an arm.
        ready: whether it is a run of ``bin/train``, which has seen what it has seen.
    """

    config: ConfigDict
    sources: Sources
    generator: GeneratorFor
    ready: bool = False

    @property
    def held_out(self) -> tuple[str, ...]:
        """Cases of validation and test, which no model may have seen; () without that check."""
        if not self.config.experiment.check_names:
            return ()
        parts = (self.sources.validation, self.sources.test)
        return tuple(name for part in parts for name in part.info.case_names)

    @property
    def pool(self) -> Source:
        """All training subjects."""
        return self.sources.train

    @property
    def preset(self) -> str:
        """Augmentation of all arms but those without."""
        return self.config.experiment.preset

    def recipe(self, style: str = "own", deformation: Deformation | None = None) -> Recipe:
        """The configured deformation, or another, in a style."""
        name = self.config.experiment.deformation
        if deformation is not None:
            return Recipe(deformation, "pathology", style)
        info = self.sources.info
        made = deformation_of(name, info.spacing, self.held_out, info.class_names)
        return Recipe(made, name, style)

    def healthy(self) -> Recipe:
        """The configured deformation without diseases, in the subjects' own style."""
        name = self.config.experiment.deformation
        if name != "pathology" and not name.endswith(":pathology"):
            return self.recipe("own")
        return Recipe(deformation_of("rot+elastic", self.sources.info.spacing), "rot+elastic")

    def synthetic(self, count: Callable[[int], int], recipe: Recipe, **more) -> Synthetic:
        """Synthetic images of this setting's generator."""
        pattern = self.config.experiment.vendor_pattern
        return Synthetic(self.generator, count, recipe, vendor_pattern=pattern, **more)


@dataclasses.dataclass(frozen=True)
class Part:
    """Arms that run at the same numbers of real subjects."""

    arms: Mapping[str, Arm]
    budgets: tuple[int, ...]
