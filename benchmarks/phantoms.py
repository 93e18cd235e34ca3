"""Subjects a second that the brain cohort makes, per size and thread count.

    python benchmarks/phantoms.py

Half a minute. One line a setting; the atlas is built before the clock starts and timed apart.
"""

import concurrent.futures
import time

from jaxmedgen.data.phantoms import BrainCohort, Shapes
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
    }
    for name, source in settings.items():
        start = time.perf_counter()
        source[0]
        built = time.perf_counter() - start
        one, two = rate(source, 1), rate(source, 2)
        print(f"{name:<34}{built:>9.1f}{one:>10.0f}{two:>11.0f}")


if __name__ == "__main__":
    main()
