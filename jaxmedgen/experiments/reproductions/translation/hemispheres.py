"""GenSeg on hemispheres of brains: phantoms with a tumour in one half, four contrasts.

Axial slices of brain phantoms, one hemisphere each (64 x 32); test slices are those of other
subjects that have the tumour. The arms are trained as the configuration says, on the same slices;
scores are of the weights of the best validation. A slice without its tumour is not known (a tumour
also presses on what is around it), so that there is no error of the removal, and its area under the
curve counts the brain alone.
"""

import dataclasses
import functools
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxmedgen.configuration import from_json, load_config
from jaxmedgen.data.build import Sources, build_sources
from jaxmedgen.experiments.reproductions.record import Options
from jaxmedgen.experiments.reproductions.trained_model import overridden, stored, trained_model
from jaxmedgen.experiments.runs import describe_data, open_run
from jaxmedgen.experiments.translation_scores import score_images
from jaxmedgen.report.pictures import Rgb, montage
from jaxmedgen.systems.base import CanTranslate, PlayerVariables, System
from jaxmedgen.train.environment import write_json

ARMS = ("segmentation", "autoencoder", "proposed")
STEPS = 1500
BATCH = 8
TITLE = "Hemispheres of brain phantoms, 64 x 32, four contrasts"

_SHOWN = 8
_DRAWS = 3
_CHANNEL = 0
"""FLAIR."""

Scores = dict[str, float]


def rows(options: Options, seeds: int) -> dict[str, list[Scores]]:
    """Test scores of every arm, a seed each, in the form of the glyphs' and the digits'."""
    return {arm: [scores(options, arm, seed) for seed in range(seeds)] for arm in ARMS}


def scores(options: Options, arm: str, seed: int) -> Scores:
    """Test scores and seconds of one training; finished ones are read."""
    path = options.workdir / "hemispheres" / arm / f"seed{seed}" / "scores.json"
    found = stored(path, configured(options, arm, seed))
    if found is None:
        started = time.perf_counter()
        sources, system, variables = trained(options, arm, seed)
        scored = score_images(system, variables, sources.test, background=0.0)
        took = time.perf_counter() - started
        found = dataclasses.asdict(scored) | {"seconds": took}
        write_json(path, found)
    return found


def trained(options: Options, arm: str, seed: int) -> tuple[Sources, System, PlayerVariables]:
    """Data and a trained model with the weights of its best validation."""
    config = configured(options, arm, seed)
    sources = data_of(config)
    model = trained_model(options, f"hemispheres/{arm}/seed{seed}", config, sources)
    describe_data(model.folder, sources.info, config, sources.train)
    return sources, model.system, open_run(model.folder).variables("best")[0]


def configured(options: Options, arm: str, seed: int) -> ConfigDict:
    """The configuration of one training, overrides included."""
    config = load_config(f"genseg:cpu,data=hemispheres,arm={arm}")
    with config.unlocked():
        config.seed, config.steps, config.batch_size = seed, STEPS, BATCH
    overridden(config, options)
    with config.unlocked():
        config.eval_every = config.checkpoint_every = max(1, config.steps // 5)
        config.show_every = 0
    return config


def data_of(config: ConfigDict) -> Sources:
    """The slices: the same for all arms and seeds."""
    return _sources(json.dumps(config.data.to_dict()))


@functools.lru_cache(maxsize=1)
def _sources(data: str) -> Sources:
    return build_sources(from_json(data))


def picture(options: Options) -> Rgb:
    """`grid` of the proposed model's first seed."""
    sources, system, variables = trained(options, "proposed", 0)
    return grid(system, variables, sources)


def grid(system: CanTranslate, variables: PlayerVariables, sources: Sources, scale: int = 2) -> Rgb:
    """Tumours removed, segmented and added, a slice a column; the first contrast is shown.

    Rows: test slices with a tumour, the tumour removed, what changed, segmentation, mask; then
    slices without one, and tumours added to them with several draws of u.

    Args:
        system: that translates and segments.
        variables: by player.
        sources: test slices, and training pairs whose slices without a tumour are shown.
        scale: pixels a pixel.
    """
    count = min(_SHOWN, len(sources.test))
    shown = np.linspace(0, len(sources.test) - 1, count).astype(int)
    records = [sources.test[int(i)] for i in shown]
    pairs = np.linspace(0, len(sources.train) - 1, count).astype(int)
    image = jnp.stack([jnp.asarray(r["image"]) for r in records])
    absent = jnp.stack([jnp.asarray(sources.train[int(i)]["absent"]) for i in pairs])
    keys = jax.random.split(jax.random.key(0), count)
    absence, presence = system.domain_names[:2]
    move = jax.jit(system.translate, static_argnums=3)
    removed = move(variables, keys, image, absence)
    found = 1 - jax.jit(system.predict)(variables, image)[..., 0]
    looks = [jax.vmap(lambda key, n=n: jax.random.fold_in(key, n))(keys) for n in range(_DRAWS)]
    added = [move(variables, look, absent, presence) for look in looks]
    grey = [_grey(x[..., _CHANNEL], -0.6, 0.6) for x in (image, removed)]
    grey += [_grey(jnp.abs(image - removed).mean(-1), 0, 0.6), _grey(found, 0, 1)]
    grey += [_grey(np.stack([r["label"] for r in records]), 0, 1)]
    grey += [_grey(x[..., _CHANNEL], -0.6, 0.6) for x in (absent, *added)]
    # The anterior end of a slice goes to the top.
    tiles = [tile[::-1].repeat(scale, 0).repeat(scale, 1) for row in grey for tile in row]
    return montage(tiles, columns=count, gap=2)


def _grey(values, low: float | int, high: float | int) -> np.ndarray:
    scaled = (np.asarray(values, np.float32) - low) / (high - low)
    return np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
