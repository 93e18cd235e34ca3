"""Generators of the reproduction, and what is measured of each."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Float

from jaxmedgen.configuration import load_config
from jaxmedgen.data.build import Sources, build_sources
from jaxmedgen.data.phantoms.short_axis import merge_tissues
from jaxmedgen.experiments.reproductions.cardiac.judges import (
    Judges,
    Slices,
    agreement,
    slices_of,
    without_heart,
)
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.reproductions.trained_model import overridden, trained_model
from jaxmedgen.experiments.synthetic.realism import pair_values
from jaxmedgen.metrics.inception_score import inception_score
from jaxmedgen.nets.feature_extractor import extract
from jaxmedgen.systems.base import PlayerVariables
from jaxmedgen.systems.synthesis.conditional_gan import LabelToImageGan

STEPS = 500
TRAIN_OF_EACH_VENDOR, TEST = 300, 400
JUDGED = 800
"""Test slices; the generators' own configurations name fewer and show some of them."""

PAIRED = ("ssim", "ms_ssim", "psnr", "lpips_uncalibrated")
"""Measures against the real slice of the same label map that go into the table."""
_BATCH = 50


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained generator.

    Attributes:
        system: that was trained.
        variables: of its players.
        seconds: of its training.
    """

    system: LabelToImageGan
    variables: PlayerVariables
    seconds: float

    def drawn(self, slices: Slices, seed: int = 0) -> Float[np.ndarray, "n h w 1"]:
        """Images of the label maps in styles that are drawn, where there are any."""
        keys = jax.random.split(jax.random.key(seed), len(slices.label))

        @jax.jit
        def draw(variables, keys, label):
            return self.system.sample(variables, keys, label)[0]

        return self._in_parts(draw, keys, slices.label)

    def stylised(
        self, slices: Slices, style: Float[np.ndarray, "n h w 1"]
    ) -> Float[np.ndarray, "n h w 1"]:
        """Images of the label maps in the styles of other images."""
        return self._in_parts(jax.jit(self.system.stylise), slices.label, style)

    def _in_parts(self, function, *arrays):
        parts = range(0, len(arrays[0]), _BATCH)
        found = [
            function(self.variables, *(jnp.asarray(a[i : i + _BATCH]) for a in arrays))
            for i in parts
        ]
        return np.concatenate([np.asarray(f) for f in found])


def data_of(options: Options, argument: str) -> tuple[Sources, Slices]:
    """Sources of a configuration and its test slices."""
    config = _config(options, argument, 0)
    with config.unlocked():
        config.data.test = JUDGED
    sources = build_sources(config.data)
    return sources, slices_of(sources.test)


def trained(options: Options, name: str, argument: str, seed: int) -> Model:
    """The generator of a configuration, trained in ``WORKDIR/NAME/seedSEED`` or read from it."""
    config = _config(options, argument, seed)
    sources = build_sources(config.data)
    watched = dataclasses.replace(sources, validation=sources.test)
    title = f"{name}, seed {seed}"
    model = trained_model(options, f"{name}/seed{seed}", config, watched, title)
    return Model(model.system, model.variables, model.seconds)


def _config(options: Options, argument: str, seed: int):
    config = load_config(f"cardiac_synthesis:cpu,{argument}")
    with config.unlocked():
        config.seed, config.steps = seed, STEPS
        config.checkpoint_every = config.show_every = STEPS
        config.data.train = TRAIN_OF_EACH_VENDOR * len(config.data.vendors)
        config.data.test = TEST
    return overridden(config, options)


def quality(judges: Judges, real: Slices, made: np.ndarray) -> dict[str, float]:
    """Fidelity to the label maps, distance to the real slices, and the inception score."""
    outside = merge_tissues(real.label, 4) == 0
    pairs = pair_values(made, real.image, judges.extractor, data_range=2.0)
    return {
        **{name: float(pairs[name].mean()) for name in PAIRED},
        "kid": judges.kernel_distance(real.image, made),
        "inception_score": inception_score(extract(judges.extractor.probs, made)).mean,
        "dice": float(np.nanmean(judges.fidelity(made, real.label))),
        "fid": judges.distance(real.image, made),
        "background_fid": judges.distance(
            without_heart(real.image, real.label), without_heart(made, real.label)
        ),
        "encoder_fid": judges.distance(real.image, made, encoder=True),
        "background_error": float(np.abs(made - real.image)[..., 0][outside].mean()),
        "own_vendor": float((judges.named(made) == real.vendor).mean()),
    }


def other_vendor(real: Slices) -> np.ndarray:
    """For every slice the number of one of the other vendor: mismatched pairs."""
    first, second = sorted(set(real.vendor))
    numbers = {v: np.flatnonzero(real.vendor == v) for v in (first, second)}
    partner = np.empty(len(real.vendor), int)
    for vendor, wanted in ((first, second), (second, first)):
        places = numbers[vendor]
        partner[places] = np.resize(np.roll(numbers[wanted], 1), len(places))
    return partner


def style_control(
    judges: Judges, model: Model, real: Slices
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """What a style image decides: vendor, contrast, histogram; and what it must not: anatomy.

    Returns:
        Numbers, and the images in own and other styles.
    """
    partner = other_vendor(real)
    style = real.image[partner]
    swapped = model.stylised(real, style)
    own = model.stylised(real, real.image)
    segmented = [judges.segment(x) for x in (own, swapped)]
    heart = merge_tissues(real.label, 4)
    contrasts = [contrast(x, heart) for x in (own, swapped, real.image, style)]
    change = np.abs(contrasts[0] - contrasts[1]).mean()
    numbers = {
        "style_vendor": float((judges.named(swapped) == real.vendor[partner]).mean()),
        "style_dice": float(np.nanmean(judges.fidelity(swapped, real.label))),
        "between_styles_dice": float(np.nanmean(agreement(*segmented))),
        "contrast_change": float(change),
        "histogram_distance": _histogram_distance(swapped, style),
        "histogram_distance_own": _histogram_distance(own, style),
    }
    return numbers, own, swapped


def contrast(image: Float[np.ndarray, "n h w 1"], heart: np.ndarray) -> Float[np.ndarray, " n"]:
    """Mean signal of the left ventricle's blood less that of its muscle."""
    means = []
    for value in (1, 2):
        mask = heart == value
        means.append((image[..., 0] * mask).sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1))
    return means[0] - means[1]


def diversity(model: Model, real: Slices, draws: int = 4) -> float:
    """Mean absolute difference of images of one label map in several drawn styles."""
    few = real.of(np.arange(min(50, len(real.label))))
    made = [model.drawn(few, seed) for seed in range(draws)]
    gaps = [np.abs(a - b).mean() for i, a in enumerate(made) for b in made[:i]]
    return float(np.mean(gaps))


def _histogram_distance(made: np.ndarray, style: np.ndarray) -> float:
    """Earth mover's distance of intensities, image by image."""
    pairs = zip(made.reshape(len(made), -1), style.reshape(len(style), -1))
    return float(np.mean([scipy.stats.wasserstein_distance(a, b) for a, b in pairs]))
