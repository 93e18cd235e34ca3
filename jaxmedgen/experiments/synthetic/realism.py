"""Does a synthetic set look real? Measures by evaluation level, with bootstrap intervals.

Level 2 compares single images with the real ones of the same label map and subject; level 3
compares sets in an extractor's features; label fidelity asks whether a segmenter of real images
finds the labels again. A number alone says little: the same measures of held-out real images (the
floor), blurred ones and noise (the ceiling) stand beside it, all with the same number of images.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.experiments.synthetic.image_sets import ImageSet
from jaxmedgen.metrics import image_quality
from jaxmedgen.metrics.diversity import mean_feature_distance, pairwise_ms_ssim
from jaxmedgen.metrics.frechet import fid, fid_by_group, fid_infinity
from jaxmedgen.metrics.inception_score import inception_score
from jaxmedgen.metrics.kernel_distance import kid, mmd
from jaxmedgen.metrics.manifold import manifold
from jaxmedgen.metrics.memorisation import Memorisation, memorisation
from jaxmedgen.metrics.perceptual_distance import lpips_uncalibrated
from jaxmedgen.metrics.segmentation import dice_score
from jaxmedgen.metrics.statistics import mean_interval
from jaxmedgen.nets.feature_extractor import Extractor, extract
from jaxmedgen.report.realism import Measure

_RESAMPLES = 50
_SUBSETS = {"value": 100, "bootstrap": 20}
"""Of KID: Bińkowski et al.'s hundred; fewer for each of the resamples, which vary more."""
_NEIGHBOURS = 5
_BATCH = 16


def set_measures(
    reference: ImageSet,
    sets: Mapping[str, ImageSet],
    extractor: Extractor,
    *,
    data_range: float | int = 1.0,
    seed: int = 0,
    resamples: int = _RESAMPLES,
) -> tuple[Measure, ...]:
    """Level 3: every set against the real reference, in one extractor's features.

    Intervals are the value and 1.96 bootstrap deviations over subjects of the compared set; the
    reference stays. Neither the extrapolated FID nor the similarity of pairs has one. Sets are cut
    to the size of the smallest, drawn at random.

    Args:
        reference: real images.
        sets: by name; with the floor and ceilings among them.
        extractor: the features.
        data_range: width of the intensities' full scale.
        seed: of all draws.
        resamples: bootstrap samples; 0 gives no intervals.

    Raises:
        ValueError: fewer images than the neighbours that the manifolds need.
    """
    size = min(len(s) for s in sets.values())
    if min(size, len(reference)) <= _NEIGHBOURS:
        raise ValueError(
            f"{len(reference)} reference images and sets of {size}: manifolds of {_NEIGHBOURS} "
            "neighbours need more"
        )
    rng = np.random.default_rng(seed)
    known = extract(extractor.features, reference.seen)
    found = []
    for name, whole in sets.items():
        part = whole.take(np.sort(rng.permutation(len(whole))[:size]))
        features = extract(extractor.features, part.seen)
        values = _distances(known, features, _SUBSETS["value"])
        spread = _resampled(
            lambda rows, f=features: (
                _distances(known, f[rows], _SUBSETS["bootstrap"])
                if len(rows) > _NEIGHBOURS
                else {}
            ),
            part.subjects, rng, resamples,
        )  # fmt: skip
        if extractor.probs is not None:
            probabilities = extract(extractor.probs, part.seen)
            score = inception_score(probabilities, splits=min(10, size // 10 or 1), seed=seed)
            values["inception_score"] = score.mean

            def score_of(rows, p=probabilities):
                return {"inception_score": inception_score(p[rows], splits=1).mean}

            spread |= _resampled(score_of, part.subjects, rng, resamples)
        values["fid_infinity"] = fid_infinity(known, features, seed=seed)
        if part.groups and reference.groups:
            groups = np.asarray(part.groups)

            def by_group(rows, features=features, groups=groups):
                chosen = (features[rows], reference.groups, tuple(groups[rows]))
                found = fid_by_group(known, *chosen)
                return {f"fid {group}": value for group, value in found.items()}

            values |= by_group(np.arange(size))
            spread |= _resampled(by_group, part.subjects, rng, resamples)
        window = image_quality.fitting_window(part.images.shape[1:-1])
        similarity = pairwise_ms_ssim(part.images, data_range=data_range, window=window, seed=seed)
        values["pairwise_ms_ssim"] = float(similarity.mean())
        for metric, value in values.items():
            around = 1.96 * spread.get(metric, np.nan)
            found.append(Measure(3, name, metric, value, value - around, value + around, size))
    return tuple(found)


def pair_measures(
    generated: Float[np.ndarray, "n *s c"],
    real: Float[np.ndarray, "n *s c"],
    subjects: Sequence[str],
    extractor: Extractor,
    *,
    data_range: float | int = 1.0,
    name: str = "synthetic",
    seed: int = 0,
    shown: Sequence[Float[np.ndarray, "n *s c"]] | None = None,
) -> tuple[Measure, ...]:
    """Level 2: images of the original label maps against the real images of these labels.

    Args:
        generated: of the label maps as they are, in their subjects' own style.
        real: the real images of the same label maps.
        subjects: of the pairs.
        extractor: for the distance of feature maps.
        data_range: width of the intensities' full scale.
        name: of the set.
        seed: of the bootstrap.
        shown: the generated and the real images that the extractor is shown, where it takes others
            (`ImageSet.shown`).

    Raises:
        ValueError: not as many real as generated images.
    """
    values = pair_values(generated, real, extractor, data_range=data_range, shown=shown)
    return tuple(
        _mean_measure(2, name, metric, found, subjects, seed) for metric, found in values.items()
    )


def pair_values(
    generated: Float[np.ndarray, "n *s c"],
    real: Float[np.ndarray, "n *s c"],
    extractor: Extractor,
    *,
    data_range: float | int = 1.0,
    shown: Sequence[Float[np.ndarray, "n *s c"]] | None = None,
) -> dict[str, Float[np.ndarray, " n"]]:
    """The measures of `pair_measures` pair by pair.

    Raises:
        ValueError: not as many real as generated images.
    """
    if len(generated) != len(real) or not len(real):
        raise ValueError(f"{len(generated)} generated and {len(real)} real images are no pairs")

    scale = {
        "data_range": data_range,
        "window": image_quality.fitting_window(generated.shape[1:-1]),
    }

    @jax.jit
    def score(x, y, *seen):
        return {
            "ssim": image_quality.ssim(x, y, **scale),
            "ms_ssim": image_quality.ms_ssim(x, y, **scale),
            "psnr": image_quality.psnr(x, y, data_range=data_range),
            "mae": image_quality.mean_absolute_error(x, y),
            "nmse": image_quality.normalized_mean_squared_error(x, y),
            "ncc": image_quality.normalized_cross_correlation(x, y),
            "lpips_uncalibrated": lpips_uncalibrated(*map(extractor.maps, seen)),
        }

    parts, arrays = [], (generated, real, *(shown or (generated, real)))
    for start in range(0, len(real), _BATCH):
        chosen = np.resize(np.arange(start, min(start + _BATCH, len(real))), _BATCH)
        made = score(*(jnp.asarray(a[chosen], jnp.float32) for a in arrays))
        parts.append({k: np.asarray(v)[: len(real) - start] for k, v in made.items()})
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def label_fidelity(
    predict: Callable[[Float[np.ndarray, "n *s c"]], Int[np.ndarray, " n *s"]],
    images: ImageSet,
    classes: int,
    *,
    name: str = "synthetic",
    seed: int = 0,
) -> Measure:
    """Dice of a real-data segmenter's labels of synthetic images with the labels they claim.

    Args:
        predict: images to label maps, by a segmenter that was trained on real images alone.
        images: with label maps of the segmenter's classes.
        classes: number of classes.
        name: of the set.
        seed: of the bootstrap.

    Raises:
        ValueError: a set without label maps.
    """
    if images.labels is None:
        raise ValueError("label fidelity needs the label maps of the images")
    predicted = predict(images.images)
    scores = dice_score(
        jnp.asarray(predicted, jnp.int32), jnp.asarray(images.labels, jnp.int32), classes
    )
    values = np.asarray(scores)
    return _mean_measure(2, name, "label_fidelity", values, images.subjects, seed)


def copying(
    train: ImageSet, held_out: ImageSet, generated: ImageSet, extractor: Extractor
) -> tuple[tuple[Measure, ...], Memorisation]:
    """Level 3: whether generated images are copies of training images, in features."""
    sets = [extract(extractor.features, s.seen) for s in (train, held_out, generated)]
    found = memorisation(*sets)
    names = ("distance_ratio", "copied", "authenticity")
    nan, count = float("nan"), len(generated)
    measures = (
        Measure(3, "synthetic", f"memorisation {n}", getattr(found, n), nan, nan, count)
        for n in names
    )
    return tuple(measures), found


def _distances(real: np.ndarray, generated: np.ndarray, subsets: int) -> dict[str, float]:
    near = manifold(real, generated, neighbours=_NEIGHBOURS)
    return {
        "fid": fid(real, generated),
        "kid": kid(real, generated, subsets=subsets).mean,
        "mmd": mmd(real, generated),
        **dataclasses.asdict(near),
        "feature_distance": mean_feature_distance(generated),
    }


def _resampled(measure, subjects, rng, resamples) -> dict[str, float]:
    """Deviation of measures ``rows -> values`` over resampled subjects."""
    if resamples < 2:
        return {}
    names = sorted(set(subjects))
    of = {name: np.flatnonzero(np.asarray(subjects) == name) for name in names}
    found = []
    for _ in range(resamples):
        drawn = rng.choice(len(names), len(names))
        found.append(measure(np.concatenate([of[names[i]] for i in drawn])))
    known = sorted({metric for values in found for metric in values})
    return {m: float(np.std([f[m] for f in found if m in f])) for m in known}


def _mean_measure(level, name, metric, values, subjects, seed) -> Measure:
    """Mean over subjects of their means, with a bootstrap interval over subjects."""
    by_subject = [
        float(np.nanmean(values[np.asarray(subjects) == s])) for s in dict.fromkeys(subjects)
    ]
    if np.isinf(by_subject).any():  # PSNR of equal images
        nan = float("nan")
        return Measure(level, name, metric, float(np.mean(by_subject)), nan, nan, len(values))
    around = mean_interval(by_subject, resamples=999, seed=seed)
    return Measure(level, name, metric, around.mean, around.low, around.high, len(values))
