"""Subjects a second that phantoms make, per size and thread count.

    python benchmarks/phantoms.py

A minute. One line a setting; the atlas is built before the clock starts and timed apart.
"""

import concurrent.futures
import time

from jaxmedgen.data.phantoms import BrainCohort, Shapes
from jaxmedgen.data.phantoms.digit_masks import DigitMasks
from jaxmedgen.data.phantoms.ellipses import Ellipses
from jaxmedgen.data.phantoms.fetal_skull import FetalSkull
from jaxmedgen.data.phantoms.hippocampus import Hippocampi
from jaxmedgen.data.phantoms.left_ventricle import LeftVentricles
from jaxmedgen.data.phantoms.vessel_junctions import VesselJunctions
from jaxmedgen.data.sources import Source


def rate(source: Source, threads: int, seconds: float = 2.0) -> float:
    """Subjects a second over at least `seconds`."""
    made = 0
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        while time.perf_counter() - start < seconds:
            made += sum(1 for _ in pool.map(source.__getitem__, range(16)))
    return made / (time.perf_counter() - start)


def main() -> None:
    """Print the table."""
    print(f"{'source':<34}{'build s':>9}{'1 thread':>10}{'2 threads':>11}   subjects/s")
    settings = {
        "brain 48^3, t1": BrainCohort(16),
        "brain 48^3, t1, brain-extracted": BrainCohort(16, skull=False),
        "brain 64^3, t1": BrainCohort(16, (64,) * 3),
        "brain 48^3, t1+t2+flair, lesions": BrainCohort(
            16, contrasts=("t1", "t2", "flair"), lesions=("wmh", "tumour")
        ),
        "shapes 64^2": Shapes(16),
        "shapes 32^3": Shapes(16, (32,) * 3),
        "fetal skulls 32^3 with 3 planes": FetalSkull(16),
        "left ventricles 32^3, ED and ES": LeftVentricles(16, (32,) * 3),
        "hippocampi 32^3": Hippocampi(16, (32,) * 3),
        "vessel junctions 20^2": VesselJunctions(16, (20, 20)),
        "digit-like masks 32^2": DigitMasks(16),
        "ellipses 32^2": Ellipses(16),
    }
    for name, source in settings.items():
        start = time.perf_counter()
        source[0]
        built = time.perf_counter() - start
        one, two = rate(source, 1), rate(source, 2)
        print(f"{name:<34}{built:>9.1f}{one:>10.0f}{two:>11.0f}")


if __name__ == "__main__":
    main()
