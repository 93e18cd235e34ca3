"""Networks of trained runs as judges: they bring images to the scale of their training themselves.

They are shown images as they are read, never standardised ones: a normalisation that leaves out
voxels of 0 (``zscore``) would find none left, and take air into the mean and deviation of tissue.
"""

import pathlib
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.normalization import normalize
from jaxmedgen.experiments.runs import TrainedRun, open_run
from jaxmedgen.experiments.synthetic.comparable import check_scales
from jaxmedgen.experiments.synthetic.extractors import scale_of
from jaxmedgen.experiments.training import predictor
from jaxmedgen.systems.base import CanPredict

_FIXED = ("ct", "none")
"""Normalisations that take intensities in the units of the training data."""
_EMPTY = 0.05
"""Least part of voxels of 0 that counts as a background of 0."""


def segmenter_of(workdir: pathlib.Path) -> tuple[Callable, int, Callable]:
    """A real-data segmenter's prediction of images as they are read, its classes, its `remap`.

    Raises:
        ConfigError: the folder holds no run.
        ValueError: a run that does not segment.
    """
    run: TrainedRun = open_run(workdir)
    if not isinstance(run.system, CanPredict):
        raise ValueError(f"{workdir} holds {run.config.system}, which does not segment")
    variables, _ = run.variables()
    predict = predictor(run.system, run.config)
    scale, statistics = scale_of(run), run.preprocessing.ct_statistics

    def labels(images: np.ndarray) -> np.ndarray:
        shown = (normalize(image, scale, statistics) for image in images)
        return np.stack([predict(variables, image) for image in shown])

    return labels, run.info.num_classes, run.remap


def check_own_scale(
    option: str,
    workdir: pathlib.Path,
    sets: Mapping[str, Float[np.ndarray, "n *s c"]],
    *,
    standardize: bool,
) -> list[str]:
    """What a reader must know of images that a run is shown.

    Args:
        option: that names the run, for messages.
        workdir: of the run.
        sets: images as they are read, the real ones first.
        standardize: whether sets of different scales are let in.

    Raises:
        ConfigError: the folder holds no run.
        ValueError: the run wants intensities in units of its own, and the sets have several.
    """
    scale = scale_of(open_run(workdir))
    names = {scale} if isinstance(scale, str) else set(scale)
    if standardize and names & set(_FIXED):
        try:
            check_scales(sets)
        except ValueError:
            raise ValueError(
                f"{option} {workdir} takes intensities in the units of its training data "
                f"(normalization {', '.join(sorted(names))}), and the sets have different scales, "
                "which --standardize does not change for it: bring the files to its units, or give "
                "a run with normalization zscore"
            ) from None
    if "zscore" not in names:
        return []
    empty = {name: float((images == 0).mean()) for name, images in sets.items()}
    first, *others = empty
    return [
        f"{option} {workdir} leaves voxels of 0 out of its mean and deviation (zscore): "
        f"{empty[first]:.0%} of the {first} images, but {empty[name]:.0%} of the {name} ones, "
        "whose tissue it sees on another scale; give their background the value 0"
        for name in others
        if empty[first] > _EMPTY and empty[name] < empty[first] / 5
    ]
