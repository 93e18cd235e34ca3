"""Training, validation and test parts of numbered phantoms, and of short-axis hearts."""

from collections.abc import Callable
from typing import Any

from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.phantoms.short_axis import ShortAxis
from jaxmedgen.data.phantoms.short_axis_stack import DISEASES, PHASES, ShortAxisStacks
from jaxmedgen.data.sources import Source, in_memory, joined
from jaxmedgen.data.stacks import Grouped


def numbered_parts(data: Any, make: Callable[[int, int], Source]) -> tuple[Source, Source, Source]:
    """Training, validation and test subjects, one after the other of one numbered series."""
    counts = (data.train, data.validation, data.test)
    starts = (0, data.train, data.train + data.validation)
    return tuple(in_memory(make(size, start)) for size, start in zip(counts, starts))


def short_axis_parts(data: Any) -> tuple[Source, Source, Source]:
    """Slices of ``data.vendors``; tests of ``data.test_vendors`` where they are given."""

    def make(size: int, start: int) -> Source:
        tested = start >= data.train + data.validation and data.get("test_vendors")
        vendors = tuple(data.test_vendors if tested else data.vendors)
        shape, classes = tuple(data.shape), data.heart_classes
        return ShortAxis(size, shape, data.seed, vendors, classes, start)

    return numbered_parts(data, make)


def heart_slice_parts(data: Any) -> tuple[Source, Source, Source]:
    """Subjects of ``data.train_vendors`` and ``data.train_diseases``; tests of every pair of both.

    ``data.test`` subjects a pair of ``data.test_vendors`` and ``data.test_diseases``.
    """
    pairs = [((v,), (d,)) for v in data.test_vendors for d in data.test_diseases]
    known = (tuple(data.train_vendors), tuple(data.train_diseases))
    groups = [(data.train, known), (data.validation, known), *((data.test, p) for p in pairs)]
    sources, start = [], 0
    for size, (names, diseases) in groups:
        sources.append(
            HeartSlices(size, tuple(data.shape), data.seed, start, tuple(names), tuple(diseases))
        )
        start += size
    train, validation, *test = map(in_memory, sources)
    return train, validation, joined(test)


def short_axis_stack_parts(data: Any) -> tuple[Source, Source, Source]:
    """Stacks of diseases that take turns; numbers of subjects, each with all its phases.

    With ``data.vendors`` they have images, those of ``data.test_vendors`` in the tests where these
    are given; without, label maps alone if ``data.stacks`` takes them apart, else images of vendors
    A and B. A ``data.shape`` of three axes gives every stack so many slices.
    """
    counts = (data.train, data.validation, data.test)
    starts = (0, data.train, data.train + data.validation)
    shape = tuple(data.shape)
    kinds = {
        "diseases": tuple(data.get("diseases", DISEASES)),
        "phases": tuple(data.get("phases", PHASES[:1])),
    }
    if len(shape) == 3:
        kinds["slices"] = (shape[0], shape[0])
    usual = () if data.get("stacks") else ("A", "B")
    vendors = tuple(data.get("vendors", ())) or usual
    tested = tuple(data.get("test_vendors", ())) or vendors
    sources = [
        ShortAxisStacks(size, shape[-2:], data.seed, start, vendors=names, **kinds)
        for size, start, names in zip(counts, starts, (vendors, vendors, tested))
    ]
    if not vendors:
        return tuple(sources)
    # Images are drawn once; label maps are quick.
    return tuple(Grouped(in_memory(s), s.groups, s.phases_of) for s in sources)
