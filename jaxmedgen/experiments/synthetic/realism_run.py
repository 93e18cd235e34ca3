"""The realism of a folder of synthetic images: everything from reading to the report."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from jaxmedgen.data.case_groups import groups_of
from jaxmedgen.data.normalization import normalize
from jaxmedgen.data.sources import Source, Standardized, subset
from jaxmedgen.data.splits import patient_of, train_test_split
from jaxmedgen.experiments.runs import TrainedRun, open_run
from jaxmedgen.experiments.synthetic.comparable import (
    check_scales,
    check_sizes,
    common_window,
    voxel_notes,
)
from jaxmedgen.experiments.synthetic.extractors import (
    extractor_for,
    is_pretrained,
    scale_of,
)
from jaxmedgen.experiments.synthetic.interpretation import Findings, readings
from jaxmedgen.experiments.synthetic.realism import (
    ImageSet,
    copying,
    label_fidelity,
    pair_measures,
    set_measures,
)
from jaxmedgen.experiments.training import predictor
from jaxmedgen.metrics.frechet import VECTORS_PER_DIMENSION
from jaxmedgen.metrics.image_quality import range_notes
from jaxmedgen.nets.feature_extractor import Extractor
from jaxmedgen.report.realism import RealismReport, write_realism
from jaxmedgen.systems.base import CanPredict
from jaxmedgen.train.environment import describe_environment


def image_set(
    source: Source, pattern: str = "", subjects: Mapping[str, str] | None = None
) -> ImageSet:
    """All images of a source.

    Args:
        source: labelled subjects of one size.
        pattern: regular expression of the group in the names of cases, or "".
        subjects: case that an image was made of, where its own name does not tell (synthetic
            images). Images of one patient's cases are resampled together.

    Raises:
        ValueError: images of different sizes.
    """
    names = source.info.case_names
    records = [source[i] for i in range(len(source))]
    shapes = {r["image"].shape for r in records}
    if len(shapes) != 1:
        raise ValueError(
            f"images of sizes {sorted(shapes)[:3]} cannot be compared: give --shape, one for all"
        )
    subjects = subjects or {}
    return ImageSet(
        np.stack([np.asarray(r["image"], np.float32) for r in records]),
        tuple(patient_of(subjects.get(name, name)) for name in names),
        groups_of(names, pattern) if pattern else (),
        np.stack([np.asarray(r["label"], np.int32) for r in records]),
    )


def halves(source: Source, seed: int = 0) -> tuple[Source, Source]:
    """Two parts of a source without a patient in common: a reference and the floor.

    Raises:
        ValueError: one patient.
    """
    names = source.info.case_names
    number = {name: i for i, name in enumerate(names)}
    split = train_test_split(names, test_fraction=0.5, seed=seed)
    return tuple(subset(source, [number[n] for n in part]) for part in split)


def ceilings(real: ImageSet, data_range: float | int, seed: int = 0) -> dict[str, ImageSet]:
    """Real images blurred by 1.5 voxels, and pure noise of their mean and deviation."""
    widths = (0, *(1.5,) * (real.images.ndim - 2), 0)
    rng = np.random.default_rng(seed)
    noise = rng.normal(real.images.mean(), real.images.std(), real.images.shape)
    low = float(real.images.min())
    return {
        "blurred real": dataclasses.replace(
            real, images=scipy.ndimage.gaussian_filter(real.images, widths, mode="nearest")
        ),
        "noise": dataclasses.replace(
            real, images=np.clip(noise, low, low + data_range).astype(np.float32)
        ),
    }


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
        data_range: width of the intensities' full scale; 6 is taken with `standardize`.
        seed: of all draws.

    Raises:
        ValueError: images that cannot be compared: of different sizes, or without `standardize` of
            clearly different ranges of intensities.
    """
    known, floor = (real, held_out) if held_out is not None else halves(real, seed)
    if standardize:
        known, floor, synthetic = (Standardized(s) for s in (known, floor, synthetic))
        data_range = 6.0
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
    arrays = {"real": reference.images, "held-out": unseen.images, "synthetic": generated.images}
    check_sizes(arrays)
    if held_out is None:  # two parts of one set
        arrays["real"] = np.concatenate([arrays["real"], arrays.pop("held-out")])
    if not standardize:
        check_scales(arrays)
    said = voxel_notes({"real": known, "held-out": floor, "synthetic": synthetic})
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
    pairs = _pairs(known, synthetic, manifest)
    if pairs:
        ours, theirs, subjects = pairs
        measures += pair_measures(ours, theirs, subjects, network, data_range=data_range, seed=seed)
    if segmenter:
        predict, classes, remap = _segmenter(pathlib.Path(segmenter))
        others = _other_subjects(generated.subjects)
        permuted = dataclasses.replace(generated, labels=generated.labels[others])
        # Labels of a set that says so are classes already; others have the values of files.
        known_classes = tuple(manifest.get("class_names", ()))
        for name, part, classes_of in (
            ("held-out real", unseen, ()),
            ("synthetic", generated, known_classes),
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


def _pairs(real: Source, synthetic: Source, manifest: Mapping):
    """Aligned images, where label maps were kept and styles are the subjects' own."""
    if manifest.get("deformation") != "none" or manifest.get("style") != "own":
        return None
    number = {name: i for i, name in enumerate(real.info.case_names)}
    kept = [
        (i, number[e["subject"]])
        for i, e in enumerate(manifest["images"])
        if e["subject"] in number
    ]
    if not kept:
        return None
    ours = np.stack([synthetic[i]["image"] for i, _ in kept])
    theirs = np.stack([real[j]["image"] for _, j in kept])
    return ours, theirs, [patient_of(real.info.case_names[j]) for _, j in kept]


def _segmenter(workdir: pathlib.Path) -> tuple[Callable, int, Callable]:
    """A real-data segmenter's prediction of images in its own scale, and its classes."""
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
