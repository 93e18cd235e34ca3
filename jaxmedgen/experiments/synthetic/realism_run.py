"""The realism of a folder of synthetic images: everything from reading to the report."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.data.sources import Source, Standardized, subset
from jaxmedgen.data.splits import train_test_split
from jaxmedgen.experiments.synthetic.comparable import (
    check_scales,
    check_sizes,
    common_window,
    voxel_notes,
)
from jaxmedgen.experiments.synthetic.extractors import extractor_for, is_pretrained
from jaxmedgen.experiments.synthetic.image_sets import (
    ImageSet,
    ceilings,
    image_set,
    standardized,
)
from jaxmedgen.experiments.synthetic.interpretation import Findings, readings
from jaxmedgen.experiments.synthetic.own_scale import check_own_scale, segmenter_of
from jaxmedgen.experiments.synthetic.realism import (
    copying,
    label_fidelity,
    pair_measures,
    set_measures,
)
from jaxmedgen.metrics.frechet import VECTORS_PER_DIMENSION
from jaxmedgen.metrics.image_quality import range_notes
from jaxmedgen.nets.feature_extractor import Extractor
from jaxmedgen.report.realism import RealismReport, write_realism
from jaxmedgen.train.environment import describe_environment


def halves(source: Source, seed: int = 0) -> tuple[Source, Source]:
    """Two parts of a source without a patient in common: a reference and the floor.

    Raises:
        ValueError: one patient.
    """
    names = source.info.case_names
    number = {name: i for i, name in enumerate(names)}
    split = train_test_split(names, test_fraction=0.5, seed=seed)
    return tuple(subset(source, [number[n] for n in part]) for part in split)


def warnings_of(sets: Mapping[str, ImageSet], extractor: Extractor, dimension: int) -> list[str]:
    """What a reader must know about these numbers."""
    size = min(len(s) for s in sets.values())
    found = []
    if size < VECTORS_PER_DIMENSION * dimension:
        found.append(
            f"{size} images for {dimension} features: FID is biased upward, read KID "
            f"(FID wants {VECTORS_PER_DIMENSION * dimension})"
        )
    if not extractor.trained:
        found.append(
            f"{extractor.name} was not trained on these images: distances are a sanity check and "
            "there is no inception score"
        )
    return found


def evaluate_realism(
    real: Source,
    synthetic: Source,
    workdir: pathlib.Path,
    *,
    held_out: Source | None = None,
    extractor: str = "",
    segmenter: str = "",
    pattern: str = "",
    manifest: Mapping | None = None,
    standardize: bool = False,
    data_range: float | int = 1.0,
    seed: int = 0,
) -> RealismReport:
    """Measures a synthetic set and writes ``realism.html`` with its numbers and pictures.

    Args:
        real: real subjects that the generator was trained on; without `held_out` half of them are
            the reference and the other half the floor.
        synthetic: its images.
        workdir: for the report and the extractor's training.
        held_out: real subjects that the generator has not seen.
        extractor: see `extractors.extractor_for`; by default a classifier of the groups, or random
            weights where fewer than two are known, which the report says.
        segmenter: folder of a segmenter's run on real images, for label fidelity; "" for none.
        pattern: regular expression of the group in the names of cases, or "".
        manifest: of the synthetic set: which image belongs to which subject.
        standardize: compares images of mean 0 and deviation 1, all sets alike, where they have
            different intensity scales; differences of brightness and contrast are then not seen.
            Trained runs (of `extractor` and `segmenter`) are shown images as they are read all the
            same, which they bring to the scale of their training themselves (`own_scale`).
        data_range: width of the intensities' full scale; 6 is taken with `standardize`.
        seed: of all draws.

    Raises:
        ValueError: images that cannot be compared: of different sizes, or of clearly different
            ranges of intensities without `standardize`, or with a run that takes its own units.
    """
    known, floor = (real, held_out) if held_out is not None else halves(real, seed)
    manifest = dict(manifest or {})
    made_from = {entry["name"]: entry["subject"] for entry in manifest.get("images", ())}
    styles = {entry["name"]: entry["style"] for entry in manifest.get("images", ())}
    reference, unseen = image_set(known, pattern), image_set(floor, pattern)
    generated = image_set(synthetic, "", made_from)
    if pattern and styles:
        names = synthetic.info.case_names
        # An image in its subject's own style is of the subject's vendor.
        groups = tuple(
            groups_of([made_from[n]], pattern)[0] if styles[n] == "own" else styles[n]
            for n in names
        )
        generated = dataclasses.replace(generated, groups=groups)
    read = {"real": reference.images, "held-out": unseen.images, "synthetic": generated.images}
    check_sizes(read)
    said, is_run = [], bool(extractor) and pathlib.Path(extractor).is_dir()
    for option, run in (("--extractor", extractor if is_run else ""), ("--segmenter", segmenter)):
        if run:
            said += check_own_scale(option, pathlib.Path(run), read, standardize=standardize)
    if standardize:
        reference, unseen, generated = (
            standardized(images, source, keep=is_run)
            for images, source in ((reference, known), (unseen, floor), (generated, synthetic))
        )
        known, data_range = Standardized(known), 6.0
    arrays = dict(zip(read, (reference.images, unseen.images, generated.images)))
    if held_out is None:  # two parts of one set
        arrays["real"] = np.concatenate([arrays["real"], arrays.pop("held-out")])
    if not standardize:
        check_scales(arrays)
    said += voxel_notes({"real": known, "held-out": floor, "synthetic": synthetic})
    said += range_notes(arrays, data_range)
    if not extractor:
        extractor = "classifier" if len(set(reference.groups)) > 1 else "random"
        if extractor == "random":
            said.append(
                "no two groups of real images are known, so that no classifier of them gives the "
                "features: they are those of random weights; give --groups or --extractor"
            )
    settings = {"data_range": data_range, "standardize": standardize, "seed": seed}
    window, folder = (0.0, 1.0), workdir / "extractor"
    if is_pretrained(extractor):
        window = common_window(arrays["real"], standardized=standardize)
        settings["window"] = window
        said.append(
            f"the extractor takes images in [0, 1]: intensities of {window[0]:.3g} to "
            f"{window[1]:.3g} of all sets are brought there, what lies outside is clipped"
        )
    groups = reference.groups or None
    network = extractor_for(extractor, known, groups, folder, seed=seed, window=window)
    sets = {"held-out real": unseen, "synthetic": generated, **ceilings(unseen, data_range, seed)}
    measures = list(set_measures(reference, sets, network, data_range=data_range, seed=seed))
    copies, memory = copying(reference, unseen, generated, network)
    said += warnings_of(sets, network, _dimension(network, reference))
    if held_out is None:
        said.append(
            "without --held-out the generator may have seen all real images: half of them are the "
            "floor, and whether images are copies cannot be told"
        )
    else:
        measures += copies
    pairs = _pairs(known.info.case_names, manifest)
    if pairs:
        ours, theirs = generated.take([i for i, _ in pairs]), reference.take([j for _, j in pairs])
        measures += pair_measures(
            ours.images, theirs.images, theirs.subjects, network, data_range=data_range, seed=seed,
            shown=(ours.seen, theirs.seen),
        )  # fmt: skip
    if segmenter:
        predict, classes, remap = segmenter_of(pathlib.Path(segmenter))
        others = _other_subjects(generated.subjects)
        seen = {name: dataclasses.replace(part, images=read[name], shown=None)
                for name, part in (("held-out", unseen), ("synthetic", generated))}  # fmt: skip
        permuted = dataclasses.replace(seen["synthetic"], labels=generated.labels[others])
        # Labels of a set that says so are classes already; others have the values of files.
        known_classes = tuple(manifest.get("class_names", ()))
        for name, part, classes_of in (
            ("held-out real", seen["held-out"], ()),
            ("synthetic", seen["synthetic"], known_classes),
            ("labels permuted", permuted, known_classes),
        ):
            merged = dataclasses.replace(part, labels=remap(part.labels, classes_of))
            measures.append(label_fidelity(predict, merged, classes, name=name, seed=seed))
    report = RealismReport(
        measures=tuple(measures),
        extractor=network.name,
        identifier=network.identifier,
        sizes={name: len(s) for name, s in {"reference": reference, **sets}.items()},
        manifest={k: v for k, v in manifest.items() if k != "images"},
        warnings=tuple(said),
        settings=settings,
        environment=describe_environment(),
        samples={name: s.images[:8, ..., 0] for name, s in {"real": reference, **sets}.items()},
        neighbours=_neighbours(generated, reference, memory),
    )
    floor_fid = report.value("held-out real", "fid")
    found = Findings(
        fid_ratio=report.value("synthetic", "fid") / floor_fid if floor_fid > 0 else math.nan,
        label_fidelity=report.value("synthetic", "label_fidelity"),
        real_fidelity=report.value("held-out real", "label_fidelity"),
        recall=report.value("synthetic", "recall"),
    )
    report = dataclasses.replace(report, readings=readings(found))
    write_realism(report, workdir)
    return report


def _pairs(cases: Sequence[str], manifest: Mapping) -> list[tuple[int, int]]:
    """Numbers of aligned synthetic and real images, where labels and the own style were kept."""
    if manifest.get("deformation") != "none" or manifest.get("style") != "own":
        return []
    number = {name: i for i, name in enumerate(cases)}
    return [
        (i, number[e["subject"]])
        for i, e in enumerate(manifest["images"])
        if e["subject"] in number
    ]


def _other_subjects(subjects: Sequence[str]) -> np.ndarray:
    """A number of another subject's image for each image, as far as a shift of all gives that."""
    names = np.asarray(subjects)
    same = [(names == np.roll(names, shift)).sum() for shift in range(1, max(len(names), 2))]
    return np.roll(np.arange(len(names)), 1 + int(np.argmin(same)))


def _dimension(extractor: Extractor, images: ImageSet) -> int:
    shape = jax.eval_shape(extractor.features, jnp.asarray(images.images[:1]))
    return int(shape.shape[-1])


def _neighbours(generated: ImageSet, real: ImageSet, memory) -> tuple[np.ndarray, np.ndarray]:
    """The generated images nearest to a training image, and those images."""
    nearest = np.argsort(memory.distance)[:8]
    return generated.images[nearest, ..., 0], real.images[memory.nearest[nearest], ..., 0]
