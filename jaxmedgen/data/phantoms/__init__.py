"""Embedded synthetic data: brain cohort, images with lesions, geometric shapes."""

from jaxmedgen.data.phantoms.brain import BrainCohort
from jaxmedgen.data.phantoms.lesion_images import LesionImages, Shift
from jaxmedgen.data.phantoms.scanner import SITES, Site
from jaxmedgen.data.phantoms.shapes import Shapes

__all__ = ["SITES", "BrainCohort", "LesionImages", "Shapes", "Shift", "Site"]
