"""Claim (i): slices between slices, against the nearest slice and interpolated distances."""

import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.data.stacks import Stack
from jaxmedgen.experiments.reproductions.hearts.models import Model
from jaxmedgen.metrics.latents import roughness
from jaxmedgen.ops.latent_paths import SLICES, latents_between
from jaxmedgen.ops.slice_interpolation import interpolate_labels

CLASSES = (1, 2, 3)
NAMES = ("left cavity", "muscle", "right cavity")


def class_dice(one: Int[np.ndarray, "*s"], other: Int[np.ndarray, "*s"]) -> np.ndarray:
    """Dice of every heart class, NaN where neither map shows it."""
    scores = []
    for value in CLASSES:
        a, b = one == value, other == value
        both = a.sum() + b.sum()
        scores.append(2 * (a & b).sum() / both if both else np.nan)
    return np.asarray(scores)


def held_out(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of kept slices (every second one) and of those between two of them."""
    numbers = np.arange(len(stack.label))
    kept = numbers[::2]
    return kept, np.asarray([k for k in numbers[1::2] if k < kept[-1]], int)


def dice_between(model: Model, method: str) -> float:
    """Dice of held-out slices of test stacks made by a method of `interpolate_labels`."""
    scores = []
    for stack in model.test:
        kept, dropped = held_out(stack)
        made = interpolate_labels(stack.label[kept], dropped / 2, classes=4, method=method)
        scores += [class_dice(a, b) for a, b in zip(made, stack.label[dropped])]
    return float(np.nanmean(scores))


def dice_of_model(model: Model) -> float:
    """Dice of held-out slices of test stacks, decoded from latents between their neighbours."""
    scores = []
    for stack in model.test:
        kept, dropped = held_out(stack)
        if not len(dropped):
            continue
        made = _decoded(model, stack.label[kept], dropped / 2)
        scores += [class_dice(a, b) for a, b in zip(made, stack.label[dropped])]
    return float(np.nanmean(scores))


def _decoded(model: Model, label: np.ndarray, positions: np.ndarray) -> np.ndarray:
    space = model.space
    if space.volumes:
        # The volume is as long as what was kept; its nearest slice is taken.
        part = Stack(label, (1.0, 1.0, 1.0), "")
        volume = space.stack(space.embed(part))
        where = positions * (len(volume) - 1) / (len(label) - 1)
        return volume[np.round(where).astype(int)]
    latents = model.population.latents
    limits = {"low": latents.min((0, 1)), "high": latents.max((0, 1))}
    return space.decode(latents_between(space.encode(label), positions, **limits))


def reconstruction_dice(model: Model) -> Float[np.ndarray, "n 3"]:
    """Dice of the slices of test stacks and what is decoded of their posterior means.

    A column each of `NAMES`; NaN where neither shows it.
    """
    if model.space.volumes:
        scores = []
        for stack in model.test:
            volume = model.space.stack(model.space.embed(stack))
            positions = np.linspace(0, len(stack.label) - 1, len(volume))
            wanted = interpolate_labels(stack.label, positions, classes=4)
            scores += [class_dice(a, b) for a, b in zip(volume, wanted)]
        return np.stack(scores)
    label = np.concatenate([stack.label for stack in model.test])
    made = model.space.decode(model.space.encode(label))
    return np.stack([class_dice(a, b) for a, b in zip(made, label)])


def share_equalised(model: Model) -> float:
    """Share of test subjects that become 32 slices, a heart in each."""
    full = 0
    for stack in model.test:
        label = model.space.stack(model.space.embed(stack))
        full += len(label) == SLICES and bool((label > 0).any((1, 2)).all())
    return full / len(model.test)


def mean_roughness(model: Model) -> float:
    """Roughness of the training subjects' latent paths, each dimension in its deviation."""
    latents = model.population.latents
    spread = np.maximum(latents.reshape(-1, latents.shape[-1]).std(0), 1e-6)
    return float(np.mean([roughness(z / spread) for z in latents]))
