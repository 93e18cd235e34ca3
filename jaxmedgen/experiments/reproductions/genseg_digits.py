"""``bin/reproduce genseg_digits``: the published tasks, one digit of a hundred with a mask.

The talk's table: a digit 9 among clutter is to be found, and one image in a hundred has a mask, on
images of 48^2 with little clutter (``simple``) and much (``hard``); ``--parts`` chooses. The third
task, images of 128^2, is `genseg_digits_large`. With ``--data`` (a folder of MNIST's files) digits
are the real ones, otherwise procedural glyphs of their size. Networks are the published ones where
there is an accelerator and small ones on a processor. Overrides (``--config.KEY=VALUE``) go to all
trainings.
"""

import jax
from ml_collections import ConfigDict

from jaxmedgen.experiments.reproductions.record import Claim, Options, Reproduction
from jaxmedgen.experiments.reproductions.trained_model import collapse_notes
from jaxmedgen.experiments.reproductions.translation import digits, tables
from jaxmedgen.report.pictures import Rgb

TAKES = ("data",)
PARTS = ("simple", "hard")
"""Published tasks, see `configs/genseg.py`."""
NAMES = {"simple": "48x48 simple", "hard": "48x48 hard", "large": "128x128"}
SEEDS = 1

_SCORE = "global soft Dice, 1 % labels: segmentation only / autoencoder / proposed"
_PUBLISHED = {
    "simple": "0.61 (0.01) / 0.75 (0.01) / 0.79 (0.01)",
    "hard": "0.36 (0.01) / 0.49 (0.02) / 0.57 (0.00)",
    "large": "0.15 (0.01) / 0.57 (0.02) / 0.65 (0.01)",
}


def reproduce(options: Options) -> Reproduction:
    """Runs everything that is not finished yet and checks the order of the arms."""
    return of_tasks(options, options.parts or PARTS)


def of_tasks(options: Options, tasks: tuple[str, ...]) -> Reproduction:
    """The three arms on some of the tasks ``simple``, ``hard`` and ``large``."""
    claims: list[Claim] = []
    parts: list[str] = []
    pictures: dict[str, Rgb] = {}
    seconds = 0.0
    size = "cpu" if jax.default_backend() == "cpu" else "gpu"
    digit = "real digits" if options.data else "procedural glyphs"
    for task in tasks:
        rows = {
            arm: [digits.scores(options, size, task, arm, seed) for seed in range(SEEDS)]
            for arm in tables.ARMS
        }
        config = digits.configured(options, size, task, "proposed", 0)
        name = f"{NAMES[task]}, {digit}"
        length = f"{config.steps} steps of {config.batch_size} + {config.batch_size} images"
        claims += tables.order(rows, name)
        seconds += tables.seconds(rows)
        parts.append(tables.table(f"{name}, size `{size}`, {length}", rows))
        pictures[task] = digits.picture(options, size, task)
    return Reproduction(
        system="genseg",
        seeds=SEEDS,
        seconds=seconds,
        claims=tuple(claims),
        published={_SCORE: {NAMES[task]: _PUBLISHED[task] for task in tasks}},
        table="\n\n".join(parts),
        pictures=pictures,
        notes=_notes(options, size, config),
    )


def _notes(options: Options, size: str, config: ConfigDict) -> tuple[str, ...]:
    shown = config.steps * config.batch_size
    notes = [
        "Weights are those of the best of five validations; test digits are others.",
        f"A training shows {shown} images with a digit, some {shown // 100} of them with a mask: "
        "where these are about a hundred, no order of the arms can be expected.",
    ]
    if size == "cpu":
        notes.append(
            "Published numbers are of networks eight times as wide that pass 200 times through "
            "59 500 images; here 4000 images train, 40 of them with a mask. Rates are constant, as "
            "published, so that Dice on the validation images moves by 0.1 between validations."
        )
    return (*notes, *collapse_notes(options))
