"""Embedded synthetic data: brain cohort and geometric shapes."""

from jaxmedgen.data.phantoms.brain import BrainCohort
from jaxmedgen.data.phantoms.scanner import SITES, Site
from jaxmedgen.data.phantoms.shapes import Shapes

__all__ = ["SITES", "BrainCohort", "Shapes", "Site"]
