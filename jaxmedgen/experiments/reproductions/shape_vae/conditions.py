"""Claim 5: a conditional VAE makes what it is asked for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxmedgen.configuration import load_config
from jaxmedgen.data.phantoms.digit_masks import CLASSES
from jaxmedgen.experiments.reproductions.record import Claim, Options, Part
from jaxmedgen.experiments.reproductions.shape_vae import models
from jaxmedgen.experiments.reproductions.shape_vae.models import (
    convolutional,
    dense,
    table,
    trained,
)
from jaxmedgen.experiments.reproductions.trained_model import TrainedModel
from jaxmedgen.experiments.shape_generation import draw, in_chunks
from jaxmedgen.experiments.shape_scores import image_rows

ARMS = {"cvae": "N(0, I)", "cvae-learned": "learned", "cvae-decoder": "N(0, I), decoder only"}
STEPS = 6000
"""Convolutions, and more steps than the other parts: while the latent code still tells the class,
draws of it and of the class asked for contradict each other."""
CLASSIFIER_STEPS = 300
_SAMPLES = 400


def condition_part(options: Options) -> Part:
    """Three ways to condition on the class, judged by a classifier of real masks."""
    found = {
        arm: trained(options, f"conditions/conv-{arm}", convolutional(f"arm={arm}", 0, steps=STEPS))
        for arm in ARMS
    }
    judge = trained(options, "conditions/classifier", _classifier_config())
    held = models.held_out(judge)
    real = float((_classes(judge, held) == np.asarray(held["target"])).mean())
    rng = np.random.default_rng(0)
    asked = np.arange(_SAMPLES) % CLASSES
    shuffled = rng.permutation(asked)
    rows, accuracy, elbo = [], {}, {}
    for arm, model in found.items():
        made = {name: _made(model, np.asarray(y)) for name, y in (("y", asked), ("p", shuffled))}
        accuracy[arm] = {n: float((_classes(judge, m) == asked).mean()) for n, m in made.items()}
        bounds = models.bounds(model, 8)
        elbo[arm] = bounds["elbo"].mean()
        rows.append(
            [ARMS[arm], f"{accuracy[arm]['y']:.3f}", f"{accuracy[arm]['p']:.3f}",
             f"{elbo[arm]:.2f}", f"{bounds['kl'].mean():.2f}"]
        )  # fmt: skip
    least = min(accuracy[arm]["y"] for arm in ("cvae", "cvae-learned"))
    most = max(accuracy[arm]["p"] for arm in ("cvae", "cvae-learned"))
    # Chance with its 95 % interval of a binomial.
    limit = 1 / CLASSES + 1.96 * np.sqrt(0.09 / _SAMPLES)
    gap = float(elbo["cvae-learned"] - elbo["cvae"])
    claims = (
        Claim(
            f"class accuracy of {_SAMPLES} conditional samples, standard and learned prior, least",
            ">= 0.9", least, None, least >= 0.9,
        ),
        Claim(
            "the same with permuted classes, most",
            f"chance: <= {limit:.3f}", most, None, bool(most <= limit),
        ),
        Claim(
            "held-out ELBO of the learned prior less the standard one, nats",
            ">= -1", gap, None, gap >= -1,
        ),
    )  # fmt: skip
    text = (
        f"Conditional VAEs of digit-like masks, one seed; a classifier of real masks has an "
        f"accuracy of {real:.3f} on held-out ones:\n\n"
        + table("prior | accuracy | classes permuted | ELBO, nats | KL, nats", rows)
    )
    seconds = judge.seconds + sum(m.seconds for m in found.values())
    return Part(seconds, claims, text, {"conditions": _picture(found["cvae-learned"])})


def _classifier_config() -> ConfigDict:
    """A small residual network for the ten classes, trained on the real training masks."""
    config = load_config("feature_extractor:cpu")
    data = dense("arm=cvae", 0).data
    with config.unlocked():
        config.data = data
        config.steps = config.checkpoint_every = CLASSIFIER_STEPS
        config.batch_size, config.net.features = 64, (8, 16, 32)
        config.target, config.targets = "target", tuple(map(str, range(CLASSES)))
        config.augment.preset = "none"
        config.optimizer.learning_rate = 1e-3
    return config


def _made(model: TrainedModel, asked: np.ndarray) -> dict[str, jax.Array]:
    batch = {"target": jnp.asarray(asked, jnp.int32)}
    return {"image": jnp.asarray(draw(model.system, model.variables, batch, 0))}


def _classes(judge: TrainedModel, batch) -> np.ndarray:
    """Likeliest class of each mask."""
    classify = jax.jit(lambda v, b: judge.system.classify(v, b["image"]))
    found = in_chunks(functools.partial(classify, judge.variables), {"image": batch["image"]})
    return found.argmax(-1)


def _picture(model: TrainedModel) -> np.ndarray:
    """A row of draws a class."""
    made = [np.asarray(_made(model, np.full(14, k))["image"]) for k in range(CLASSES)]
    return image_rows(made, scale=2)
