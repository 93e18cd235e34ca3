"""Whether GenSeg's translations vary: over the images, and with the u that is drawn for them."""

import jax
from jaxtyping import Array, Float

from jaxmedgen.losses.adversarial import relative_diversity
from jaxmedgen.losses.style_diversity import style_diversity
from jaxmedgen.nets.genseg import Translations
from jaxmedgen.systems.translation.genseg_model import GENERATOR, GenSegModel
from jaxmedgen.systems.translation.genseg_sides import Side
from jaxmedgen.train.objectives import LossInputs


def variety(
    model: GenSegModel, inputs: LossInputs, made: Translations, side: Side
) -> dict[str, Float[Array, ""]]:
    """``diversity`` of a side's translations; ``style_diversity`` where findings are added.

    The latter compares ``x_AP`` with that of another u for the same images.

    Args:
        model: settings and networks.
        inputs: of the loss; the batch is prepared.
        made: translations of the batch.
        side: real images and translations.
    """
    fake, real = (side.part(real=r)[0][: side.count] for r in (False, True))
    found = {"diversity": relative_diversity(fake, real)}
    if made.x_ap is None:
        return found

    def draw():
        batch = inputs.batch
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(inputs.keys)
        prior = jax.vmap(lambda key: jax.random.normal(key, batch["prior"].shape[1:]))(keys)
        common = model.net.parts(made.code_a)[0]
        given = common, prior, made.skips_a, batch["domain"]
        added = model.net.apply(inputs.variables[GENERATOR], *given, method="residue")
        return made.x_ap, made.x_aa + added

    return {**found, "style_diversity": style_diversity(inputs.step, draw, inputs.batch["image"])}
