"""Feature extractors by name: trained here on the real training images, or from the user's files.

``classifier``: a small residual network that learns to tell the training subjects' groups (vendor
or disease) apart. ``random``: He's initialisation, for sanity checks. A file ``.npz`` of
`save_resnet`, the folder of a run of ``bin/train`` (a classifier, or a segmenter, whose encoder is
taken), or ``ARCHITECTURE:FILE`` for weights of ImageNet or RadImageNet networks
(`nets.pretrained`).
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from jaxmedgen.configuration import load_config
from jaxmedgen.data.sources import ArraySource, Source
from jaxmedgen.experiments.model_training import train_model
from jaxmedgen.experiments.runs import open_run
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
) -> Extractor:
    """The extractor that a name stands for.

    Args:
        name: see the top of this module.
        real: real *training* subjects; a classifier is trained on them and nobody else.
        groups: of these subjects, which the classifier learns to tell apart.
        workdir: folder of its training.
        seed: of the training or of random weights.
        steps: of the training.

    Raises:
        ValueError: an unknown name, or a classifier without two groups.
    """
    dims, channels = len(real.info.spacing), len(real.info.channel_names) or 1
    if name == "random":
        return random_extractor(dims, channels, seed)
    if name == "classifier":
        return trained_classifier(real, groups, workdir, seed=seed, steps=steps)
    architecture, _, file = name.partition(":")
    if file and architecture in ARCHITECTURES:
        return pretrained_extractor(architecture, pathlib.Path(file))
    path = pathlib.Path(name)
    if path.is_dir():
        return run_extractor(path)
    if path.suffix == ".npz" and path.is_file():
        return load_resnet(path)
    raise ValueError(
        f"--extractor {name}: give classifier, random, a .npz file or the folder of a run, or one "
        f"of {', '.join(ARCHITECTURES)} with its weights as NAME:FILE"
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

    Raises:
        ValueError: a run of another kind.
    """
    run = open_run(workdir)
    variables, step = run.variables()
    title = f"{run.config.system} of {workdir.name}, step {step}"
    if isinstance(run.system, ImageClassifier):
        return resnet_extractor(run.system.net, variables[PLAYER], title)
    net = getattr(run.system, "net", None)
    if not isinstance(net, UNet):
        raise ValueError(f"{workdir} holds {run.config.system}: give a classifier's or a U-Net's")
    player = next(iter(run.system.players()))
    return unet_extractor(net, variables[player], title)
