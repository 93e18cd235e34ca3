"""New label maps from a beta-VAE of the labelled training subjects of one run.

The labels that a label-to-image generator is asked for decide what its images add: maps of the
training subjects show no new anatomy, maps between them do.
"""

import dataclasses
import pathlib

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from jaxmedgen import configuration
from jaxmedgen.data.sources import ArraySource, Source
from jaxmedgen.data.stacks import Slices, read_stacks
from jaxmedgen.experiments.label_space import LabelSpace, open_space
from jaxmedgen.experiments.model_training import counted_seconds, train_model
from jaxmedgen.experiments.training import model_steps
from jaxmedgen.metrics.plausibility import plausible_share
from jaxmedgen.ops.latent_paths import SLICES, interpolate_latents
from jaxmedgen.train.progress import Progress

STEPS = 1000
_BATCH = 32
_STAGES = 4
_TRIES = 4
_HEART = ("lv_blood", "lv_myocardium", "rv_blood")


@dataclasses.dataclass(frozen=True)
class LabelSampler:
    """Draws label maps between two random training subjects, and a little beyond them.

    Attributes:
        space: of the trained model.
        latents: of the training subjects: ``[m, 1, d]`` of slices, ``[m, 32, d]`` of stacks.
        shape: of the slices; smaller than the model's where it pads them.
        beyond: how far a draw may lie beyond either subject, in parts of their distance.
    """

    space: LabelSpace
    latents: Float[np.ndarray, "m n d"]
    shape: tuple[int, int]
    beyond: float | int = 0.1

    def __call__(self, rng: np.random.Generator, count: int) -> Int[np.ndarray, " count *s"]:
        """New maps, int32: slices ``[count, h, w]``, or stacks ``[count, 32, h, w]``.

        Of heart maps whose topology is not a heart's a few more are drawn; the last one stays.
        """
        made = []
        for _ in range(count):
            for _ in range(_TRIES):
                label = self._draw(rng)
                if not self.space.heart or plausible_share(label) > 0.95:
                    break
            made.append(label[0] if self.latents.shape[1] == 1 else label)
        return np.stack(made).astype(np.int32)

    def _draw(self, rng: np.random.Generator) -> Int[np.ndarray, "n h w"]:
        several = len(self.latents) > 1
        first, second = rng.choice(len(self.latents), 2, replace=not several)
        t = rng.uniform(-self.beyond, 1 + self.beyond)
        z = interpolate_latents(self.latents[first], self.latents[second], float(t))
        rows, columns = self.shape
        return self.space.decode(z)[:, :rows, :columns]


def train_label_vae(
    config: ConfigDict,
    labelled: Source,
    workdir: pathlib.Path,
    seed: int,
    *,
    progress: Progress | None = None,
) -> LabelSampler:
    """Trains a beta-VAE on some subjects' label maps and returns a sampler of new ones.

    Subjects are slices ``[h, w]`` or volumes, whose slices train the model; images are not looked
    at. A training that was stopped is gone on with, a finished one is read.

    Args:
        config: of the training that the maps are for; its devices are taken.
        labelled: the subjects, and nobody else: shapes of others would leak.
        workdir: folder of the training.
        seed: of the training.
        progress: where to show progress.

    Raises:
        ValueError: no subjects, or slices of different sizes.
    """
    if len(labelled) == 0:
        raise ValueError("no labelled subjects: a model of label maps needs some")
    names = labelled.info.class_names
    volumes = np.ndim(labelled[0]["label"]) == 3
    stacks = read_stacks(labelled) if volumes else ()
    slices = Slices(stacks, names) if volumes else labelled
    shapes = {np.shape(slices[i]["label"]) for i in range(len(slices))}
    if len(shapes) > 1:
        raise ValueError(f"slices of sizes {sorted(shapes)}: crop them to one, set data.shape")
    (shape,) = shapes
    padded = tuple(-(-n // 2**_STAGES) * 2**_STAGES for n in shape)
    with counted_seconds(workdir):
        maps = _padded(slices, shape, padded)
        made = _config(config, padded, seed)
        system, variables = train_model(made, maps, workdir, "label VAE", progress=progress)
    heart = tuple(names[1:4]) == _HEART
    space = open_space(system, variables, padded, heart)
    if volumes:
        wide = [dataclasses.replace(s, label=_pad(s.label, shape, padded)) for s in stacks]
        latents = np.stack([space.embed(stack, SLICES) for stack in wide])
    else:
        latents = space.encode(np.stack([r["label"] for r in maps.records]))[:, None]
    return LabelSampler(space, latents, shape)


def _pad(label, shape, padded):
    widths = [(0, 0)] * (label.ndim - 2) + [(0, p - n) for n, p in zip(shape, padded)]
    return np.pad(label, widths)


def _padded(slices: Source, shape: tuple[int, ...], padded: tuple[int, ...]) -> ArraySource:
    """Label maps alone, padded with background to what the model's stages divide."""
    labels = (np.asarray(slices[i]["label"], np.int32) for i in range(len(slices)))
    info = dataclasses.replace(slices.info, channel_names=())
    return ArraySource([{"label": _pad(label, shape, padded)} for label in labels], info)


def _config(config: ConfigDict, shape: tuple[int, ...], seed: int) -> ConfigDict:
    """The `label_deformation` configuration for slices of a shape."""
    made = configuration.load_config("label_deformation:cpu")
    with made.unlocked():
        scale = float(np.prod(shape)) / float(np.prod(made.data.shape))
        steps = model_steps(config, STEPS)
        made.seed, made.steps, made.batch_size = seed, steps, _BATCH
        made.show_every, made.checkpoint_every = 0, steps
        made.criterion.beta = made.criterion.beta * scale
        made.data.shape = shape
        made.parallel = config.parallel
    return made
