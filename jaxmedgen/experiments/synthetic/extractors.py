"""Feature extractors by name: trained here on the real training images, or from the user's files.

``classifier``: a small residual network that learns to tell the training subjects' groups (vendor
or disease) apart. ``random``: He's initialisation, for sanity checks. A file ``.npz`` of
`save_resnet`, the folder of a run of ``bin/train`` (a classifier, or a segmenter, whose encoder is
taken), or ``ARCHITECTURE:FILE`` for weights of ImageNet or RadImageNet networks
(`nets.pretrained`).

Each network sees intensities as it did in training: a run's normalisation, [0, 1] for the weights
of files, the images as they are for what is trained here.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxmedgen.configuration import load_config
from jaxmedgen.data.sources import ArraySource, Source
from jaxmedgen.experiments.model_training import train_model
from jaxmedgen.experiments.runs import TrainedRun, open_run
from jaxmedgen.nets.feature_extractor import (
    Extractor,
    load_resnet,
    random_extractor,
    resnet_extractor,
    save_resnet,
    unet_extractor,
)
from jaxmedgen.nets.pretrained import ARCHITECTURES, pretrained_extractor
from jaxmedgen.nets.unet import UNet
from jaxmedgen.systems.representation.image_classifier import PLAYER, ImageClassifier


def extractor_for(
    name: str,
    real: Source,
    groups: Sequence[str] | None,
    workdir: pathlib.Path,
    *,
    seed: int = 0,
    steps: int = 300,
    window: tuple[float, float] = (0.0, 1.0),
) -> Extractor:
    """The extractor that a name stands for.

    Args:
        name: see the top of this module.
        real: real *training* subjects; a classifier is trained on them and nobody else.
        groups: of these subjects, which the classifier learns to tell apart.
        workdir: folder of its training.
        seed: of the training or of random weights.
        steps: of the training.
        window: intensities that a network of `nets.pretrained` sees as 0 and 1.

    Raises:
        ValueError: an unknown name, or a classifier without two groups.
    """
    dims, channels = len(real.info.spacing), len(real.info.channel_names) or 1
    if name == "random":
        return random_extractor(dims, channels, seed)
    if name == "classifier":
        return trained_classifier(real, groups, workdir, seed=seed, steps=steps)
    if is_pretrained(name):
        architecture, _, file = name.partition(":")
        return in_window(pretrained_extractor(architecture, pathlib.Path(file)), *window)
    path = pathlib.Path(name)
    if path.is_dir():
        return run_extractor(path)
    if path.suffix == ".npz" and path.is_file():
        return load_resnet(path)
    raise ValueError(
        f"--extractor {name}: give classifier, random, a .npz file or the folder of a run, or one "
        f"of {', '.join(ARCHITECTURES)} with its weights as NAME:FILE"
    )


def is_pretrained(name: str) -> bool:
    """Whether a name is ``ARCHITECTURE:FILE``, of a network that takes images in [0, 1]."""
    architecture, _, file = name.partition(":")
    return bool(file) and architecture in ARCHITECTURES


def in_window(extractor: Extractor, low: float | int, high: float | int) -> Extractor:
    """The extractor behind a window of intensities: [low, high] to [0, 1], what is outside clipped.

    The window stands in its name: through another one distances are others.
    """
    seen = _behind(extractor, lambda image: jnp.clip((image - low) / (high - low), 0, 1))
    return dataclasses.replace(
        seen, name=f"{extractor.name}, {low:.3g} to {high:.3g} seen as 0 to 1"
    )


def trained_classifier(
    real: Source,
    groups: Sequence[str] | None,
    workdir: pathlib.Path,
    *,
    seed: int = 0,
    steps: int = 300,
) -> Extractor:
    """A residual classifier of the subjects' groups; ``extractor.npz`` in `workdir` holds it.

    Raises:
        ValueError: fewer than two groups, or not one a subject.
    """
    names = sorted(set(groups or ()))
    if len(names) < 2 or len(groups) != len(real):
        raise ValueError(
            f"{len(names)} groups of {len(real)} subjects: a classifier needs two or more groups, "
            "one a subject; take --extractor random or a segmenter's run instead"
        )
    config = load_config("feature_extractor:cpu")
    with config.unlocked():
        config.seed, config.steps, config.targets = seed, steps, tuple(names)
        config.target = "target"
        config.parallel.data = 1
        config.data.shape = real[0]["image"].shape[:-1]
    records = [
        {
            "image": np.asarray(real[i]["image"], np.float32),
            "label": np.asarray(real[i]["label"], np.int32),
            "target": np.int32(names.index(group)),
        }
        for i, group in enumerate(groups)
    ]
    source = ArraySource(records, real.info)
    system, trained = train_model(config, source, workdir, "feature extractor")
    variables = trained[PLAYER]
    title = f"residual classifier of {', '.join(names)}"
    save_resnet(workdir / "extractor.npz", system.net, variables, title)
    return resnet_extractor(system.net, variables, title)


def run_extractor(workdir: pathlib.Path) -> Extractor:
    """The network of a trained run: a classifier's, or the encoder of a U-Net.

    It is shown images in the normalisation of its training data (`normalization_of`).

    Raises:
        ValueError: a run of another kind.
    """
    run = open_run(workdir)
    variables, step = run.variables()
    title = f"{run.config.system} of {workdir.name}, step {step}"
    if isinstance(run.system, ImageClassifier):
        found = resnet_extractor(run.system.net, variables[PLAYER], title)
        return _behind(found, normalization_of(run))
    net = getattr(run.system, "net", None)
    if not isinstance(net, UNet):
        raise ValueError(f"{workdir} holds {run.config.system}: give a classifier's or a U-Net's")
    player = next(iter(run.system.players()))
    return _behind(unet_extractor(net, variables[player], title), normalization_of(run))


def scale_of(run: TrainedRun) -> str | tuple[str, ...]:
    """The normalisation of a run's training images; phantoms are trained on as they are."""
    return run.preprocessing.normalization if run.config.data.folder else "none"


def normalization_of(
    run: TrainedRun,
) -> Callable[[Float[Array, "b *s c"]], Float[Array, "b *s c"]]:
    """Brings images to the intensities that a run was trained on; can be compiled.

    As `data.normalization.normalize`, image by image; constant channels become 0. The function
    raises a ValueError for another number of channels than the run's.
    """
    scale, statistics = scale_of(run), run.preprocessing.ct_statistics

    def apply(image: Float[Array, "b *s c"]) -> Float[Array, "b *s c"]:
        channels = image.shape[-1]
        names = (scale,) * channels if isinstance(scale, str) else tuple(scale)
        if len(names) != channels:
            raise ValueError(
                f"images of {channels} channels, {run.workdir} was trained on {len(names)}"
            )
        # One entry may stand for all channels.
        known = tuple(statistics or ()) * (channels if len(statistics or ()) == 1 else 1)
        made = [
            _normalized(image[..., c], name, known[c] if name == "ct" else None)
            for c, name in enumerate(names)
        ]
        return jnp.stack(made, -1)

    return apply


def _normalized(x, name, statistics):
    """One channel of some images, each by its own intensities or by the data set's (ct)."""
    if name == "none":
        return x
    over = {"axis": tuple(range(1, x.ndim)), "keepdims": True}
    low, high = -jnp.inf, jnp.inf
    if name == "ct":
        low, high, shift, width = statistics
    elif name == "zscore":
        inside = x != 0
        inside |= ~inside.any(**over)
        shift, width = x.mean(where=inside, **over), x.std(where=inside, **over)
    elif name == "minmax":
        shift, width = x.min(**over), x.max(**over) - x.min(**over)
    else:
        low, high = jnp.percentile(x, jnp.array([0.5, 99.5]), **over)
        shift, width = low, high - low
    return (jnp.clip(x, low, high) - shift) / jnp.where(width > 0, width, 1.0)


def _behind(extractor: Extractor, change: Callable[[Array], Array]) -> Extractor:
    """The extractor, shown changed images."""
    probs = extractor.probs
    return dataclasses.replace(
        extractor,
        features=lambda image: extractor.features(change(image)),
        maps=lambda image: extractor.maps(change(image)),
        probs=None if probs is None else (lambda image: probs(change(image))),
    )
