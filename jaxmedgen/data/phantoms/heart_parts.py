"""Training, validation and test parts of numbered phantoms, and of short-axis hearts."""

from collections.abc import Callable
from typing import Any

from jaxmedgen.data.phantoms.heart_slices import HeartSlices
from jaxmedgen.data.phantoms.short_axis import CLASSES, ShortAxis
from jaxmedgen.data.phantoms.short_axis_stack import DISEASES, PHASES, ShortAxisStacks
from jaxmedgen.data.phantoms.vendors import VENDORS
from jaxmedgen.data.sources import Source, in_memory, joined
from jaxmedgen.data.stacks import Grouped


def numbered_parts(data: Any, make: Callable[[int, int], Source]) -> tuple[Source, Source, Source]:
    """Training, validation and test subjects, one after the other of one numbered series."""
    counts = (data.train, data.validation, data.test)
    starts = (0, data.train, data.train + data.validation)
    return tuple(in_memory(make(size, start)) for size, start in zip(counts, starts))


def short_axis_parts(data: Any) -> tuple[Source, Source, Source]:
    """Slices of ``data.vendors``; tests of ``data.test_vendors`` where they are given.

    Vendors A and B and ``data.heart_classes`` 4 where the configuration names none.
    """

    def make(size: int, start: int) -> Source:
        tested = start >= data.train + data.validation and data.get("test_vendors")
        vendors = tuple(tested or data.get("vendors") or VENDORS[:2])
        shape, classes = tuple(data.shape), data.get("heart_classes") or CLASSES[0]
        return ShortAxis(size, shape, data.seed, vendors, classes, start)

    return numbered_parts(data, make)


def heart_slice_parts(data: Any) -> tuple[Source, Source, Source]:
    """Subjects of ``data.train_vendors`` and ``data.train_diseases``; tests of every pair of both.

    ``data.test`` subjects a pair of ``data.test_vendors`` and ``data.test_diseases``. Without the
    first two ``data.vendors`` and ``data.diseases`` are taken, or else vendor A and healthy hearts;
    without the others those of training.
    """

    def chosen(name: str, usual: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(data.get(f"train_{name}") or data.get(name) or usual)

    known = (chosen("vendors", VENDORS[:1]), chosen("diseases", DISEASES[:1]))
    tested = [data.get(f"test_{n}") or k for n, k in zip(("vendors", "diseases"), known)]
    pairs = [((v,), (d,)) for v in tested[0] for d in tested[1]]
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
    """Stacks of vendors and diseases that take turns; each subject with all its phases.

    With ``data.vendors`` they have images, those of ``data.test_vendors`` in the tests where these
    are given; without, label maps alone if ``data.stacks`` takes them apart, else images of vendors
    A and B. A ``data.shape`` of three axes gives every stack so many slices.
    """
    counts = (data.train, data.validation, data.test)
    starts = (0, data.train, data.train + data.validation)
    shape = tuple(data.shape)
    kinds = {
        "diseases": tuple(data.get("diseases") or DISEASES),
        "phases": tuple(data.get("phases") or PHASES[:1]),
    }
    if len(shape) == 3:
        kinds["slices"] = (shape[0], shape[0])
    usual = () if data.get("stacks") else VENDORS[:2]
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
