"""Quantification of myocardial scar: a cascade of three networks against one, with synthetic data.

The cascade finds a box round the left ventricle, segments the myocardium in a crop of it, and the
scar in the same crop with the myocardium as a second channel; the direct network segments
myocardium and scar in the whole image (Lustermans et al.). Synthetic images are rendered from
rotated and deformed label maps. The direct network gets as many optimiser steps as the cascade's
two segmenters together, so that neither side trains longer.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.configuration import load_config
from jaxmedgen.data.sources import (
    ArraySource,
    DatasetInfo,
    Source,
    Standardized,
    in_memory,
    joined,
    subset,
)
from jaxmedgen.data.splits import patient_of
from jaxmedgen.experiments.ablation import labelled_subjects
from jaxmedgen.experiments.model_training import alone
from jaxmedgen.experiments.synthetic.crops import crop, crop_box, uncrop
from jaxmedgen.experiments.synthetic.setting import Setting
from jaxmedgen.experiments.synthetic.synthetic_set import build_set
from jaxmedgen.experiments.training import train
from jaxmedgen.metrics.scar import scar_dice
from jaxmedgen.systems.base import build_system, evaluation_variables
from jaxmedgen.systems.detection.box_regressor import box_of
from jaxmedgen.train.environment import write_json
from jaxmedgen.train.progress import Progress

MYOCARDIUM, SCAR = 2, 3
"""Values of the label maps that are predicted; 1 is blood."""

ARMS = ("direct", "cascade", "direct+synthetic", "cascade+synthetic")
_BATCH = 32


def run_scar(
    setting: Setting,
    workdir: pathlib.Path,
    *,
    seeds: int,
    arms: Sequence[str] = ARMS,
    progress: Progress | None = None,
    cache: pathlib.Path | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Trains and scores every arm and seed that is not finished; results by arm, one a seed.

    A result has ``predictions``: label maps ``[slices, h, w]`` of the test slices, in the order of
    ``setting.sources.test``, ``seconds``, and ``warnings`` of the generator's training.

    Args:
        setting: late-enhancement slices, configuration and generator.
        workdir: of all runs.
        seeds: repetitions, each with its own draw of labelled subjects.
        arms: some of `ARMS`.
        progress: where to show progress.
        cache: folder of compiled programs; ``workdir/cache`` by default.

    Raises:
        ValueError: unknown arms.
    """
    unknown = set(arms) - set(ARMS)
    if unknown:
        raise ValueError(f"unknown arms {sorted(unknown)}: choose some of {', '.join(ARMS)}")
    _claim(setting.config, workdir)
    test = in_memory(Standardized(setting.sources.test))
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    with Progress() if progress is None else progress as shown:
        for seed in range(seeds):
            for arm in arms:
                folder = workdir / "runs" / arm / f"seed{seed}"
                if not (folder / "done.json").exists():
                    shown.say(f"{arm}, seed {seed}")
                    stage = _Stage(
                        setting.config,
                        folder,
                        cache or workdir / "cache",
                        seed,
                        shown,
                        f"{arm}, seed {seed}",
                    )
                    _execute(setting, stage, workdir / "models", arm, test)
                stored = json.loads((folder / "done.json").read_text())
                with np.load(folder / "predictions.npz") as arrays:
                    results[arm].append(stored | {"predictions": arrays["predictions"]})
    return results


def _execute(setting, stage: "_Stage", models: pathlib.Path, arm: str, test: ArraySource) -> None:
    started, seed, folder = time.perf_counter(), stage.seed, stage.folder
    config, train_source = setting.config, setting.sources.train
    chosen = labelled_subjects(setting.sources, config.experiment.labelled, seed)
    shown: Source = in_memory(subset(train_source, chosen))
    warnings: tuple[str, ...] = ()
    if arm.endswith("+synthetic"):
        generator = setting.generator(shown, models / f"seed{seed}", seed)
        recipe = dataclasses.replace(setting.recipe("random"), seed=seed)
        count = max(config.experiment.ratios) * len(shown)
        made = build_set(shown, generator, recipe, count)
        write_json(folder / "synthetic.json", dict(made.manifest))
        warnings = tuple(getattr(generator, "warnings", ()))
        shown = joined([shown, made.source])
    shown = in_memory(Standardized(shown))
    if arm.startswith("direct"):
        predict = stage.segmenter("direct", shown, setting.sources.info, 2 * config.steps)
        predictions = predict(np.stack([r["image"] for r in test.records]))
    else:
        predictions = _cascade(stage, shown, setting.sources.info, test)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "predictions.npz", predictions=predictions.astype(np.uint8))
    summary = {"arm": arm, "seed": seed, "seconds": time.perf_counter() - started}
    summary["warnings"] = warnings
    summary["labelled"] = [train_source.info.case_names[i] for i in chosen]
    write_json(folder / "done.json", summary)


def _cascade(stage: "_Stage", shown: ArraySource, info: DatasetInfo, test: ArraySource):
    inside = tuple(value for value, target in enumerate(stage.config.data.target_of) if target > 0)
    find = stage.box_finder(shown, inside)
    boxes = np.asarray(box_of(jnp.asarray(_labels(shown)), inside)[0])
    crops = _crops(shown, boxes, stage.config.data.target_of)
    muscle = [dict(r, label=(r["label"] >= MYOCARDIUM).astype(np.int32)) for r in crops]
    scar = [
        {
            "image": np.concatenate([r["image"], m["label"][..., None].astype(np.float32)], -1),
            "label": (r["label"] == SCAR).astype(np.int32),
        }
        for r, m in zip(crops, muscle)
    ]
    part = dataclasses.replace(info, class_names=("background", "myocardium"))
    find_muscle = stage.segmenter("myocardium", _source(muscle, part), part, stage.config.steps)
    part = dataclasses.replace(
        info,
        class_names=("background", "scar"),
        channel_names=(*info.channel_names, "myocardium"),
    )
    find_scar = stage.segmenter("scar", _source(scar, part), part, stage.config.steps)
    images = np.stack([r["image"] for r in test.records])
    found, shape = find(images), images.shape[1:3]
    squares = [crop_box(box, shape) for box in found]
    seen = np.stack([crop(i[..., 0], *s, order=1)[..., None] for i, s in zip(images, squares)])
    myocardium = find_muscle(seen)
    scars = find_scar(np.concatenate([seen, myocardium[..., None].astype(np.float32)], -1))
    # A scar lies in the myocardium: what the second network finds outside is dropped.
    label = np.where(myocardium == 0, 0, np.where(scars > 0, SCAR, MYOCARDIUM))
    return np.stack([uncrop(one, *s, shape) for one, s in zip(label, squares)])


@dataclasses.dataclass(frozen=True)
class _Stage:
    """What the trainings of one run share."""

    config: ConfigDict
    folder: pathlib.Path
    cache: pathlib.Path
    seed: int
    progress: Progress
    name: str

    def segmenter(self, name: str, shown: Source, info: DatasetInfo, steps: int):
        """Trains a U-Net; returns images -> label maps."""
        config = self._config(steps)
        if len(shown.info.class_names) == info.num_classes:  # crops have the classes already
            with config.unlocked():
                config.data.target_of, config.data.target_names = (), ()
        system = build_system(config, info)
        variables = self._train(config, shown, info, system, name)
        predict = jax.jit(lambda image: jnp.argmax(system.predict(variables, image), -1))
        return _batched(predict)

    def box_finder(self, shown: Source, inside: tuple[int, ...]):
        """Trains the box regressor; returns images -> boxes."""
        config = self._config(self.config.steps)
        settings = load_config("heart_box:cpu")
        with config.unlocked():
            config.system, config.net = settings.system, settings.net
            config.inside, config.augment.preset = inside, settings.augment.preset
        system = build_system(config, shown.info)
        variables = self._train(config, shown, shown.info, system, "box")
        return _batched(jax.jit(lambda image: system.locate(variables, image)))

    def _config(self, steps: int) -> ConfigDict:
        config = configuration.from_json(configuration.to_json(self.config))
        with config.unlocked():
            config.seed, config.steps, config.eval_every = self.seed, steps, 0
            config.augment.preset = config.experiment.preset
        return config

    def _train(self, config, shown, info, system, name):
        result = train(
            config,
            alone(shown, info),
            system,
            self.folder / name,
            cache=self.cache,
            progress=self.progress,
            name=f"{self.name}: {name}",
        )
        return evaluation_variables(result.state)


def _batched(function):
    def apply(images: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(images), _BATCH):
            part = images[start : start + _BATCH]
            filled = np.resize(part, (_BATCH, *part.shape[1:]))
            found.append(np.asarray(function(jnp.asarray(filled, jnp.float32)))[: len(part)])
        return np.concatenate(found)

    return apply


def _crops(shown: ArraySource, boxes, target_of) -> list[Mapping[str, np.ndarray]]:
    table, made = np.asarray(target_of, np.int32), []
    for record, box in zip(shown.records, boxes):
        square = crop_box(box, record["label"].shape)
        image = crop(record["image"][..., 0], *square, order=1)[..., None]
        label = crop(table[record["label"]], *square, order=0)
        made.append({"image": image.astype(np.float32), "label": label.astype(np.int32)})
    return made


def _source(records, info: DatasetInfo) -> ArraySource:
    names = tuple(f"crop-{i:05d}" for i in range(len(records)))
    return ArraySource(records, dataclasses.replace(info, case_names=names))


def _labels(source: ArraySource) -> np.ndarray:
    return np.stack([r["label"] for r in source.records])


def dice_by_subject(
    predictions: Int[np.ndarray, "n h w"], test: Source, values: Sequence[int]
) -> dict[str, float]:
    """Dice of some label values over all slices of each test subject."""
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for i, name in enumerate(test.info.case_names):
        pair = tuple(np.isin(x, values) for x in (predictions[i], test[i]["label"]))
        found.setdefault(patient_of(name), []).append(pair)
    return {
        name: scar_dice(*(np.stack(side).astype(np.int32) for side in zip(*pairs)))
        for name, pairs in found.items()
    }


def _claim(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Writes ``study.json``, or checks that the folder's runs have these settings."""
    path = workdir / "study.json"
    if path.exists():
        before = configuration.from_json(path.read_text())
        changed = configuration.changes_since(before, config)
        if changed:
            raise configuration.ConfigError(
                f"{workdir} holds runs with other settings ({'; '.join(changed[:4])}): use another "
                "--workdir, or the same settings to go on"
            )
    write_json(path, config.to_dict())
