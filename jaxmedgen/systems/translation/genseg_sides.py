"""What GenSeg's discriminators are shown: real images and translations, of either side."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxmedgen.nets.genseg import Translations
from jaxmedgen.types import Batch, Leaf


class Side(NamedTuple):
    """Images of one side, with the finding or without.

    Attributes:
        images: ``[n, *s, c]``, real ones first.
        count: how many are real.
        domain: ``[n]``, kinds of findings.
        place: ``[n]``, where slices lie in their volumes, or None.
    """

    images: Leaf
    count: int
    domain: Leaf
    place: Leaf

    def part(self, real: bool) -> tuple[Leaf, Leaf, Leaf]:
        """Images, domains and places of the real ones, or of the translations."""
        cut = slice(self.count) if real else slice(self.count, None)
        place = None if self.place is None else self.place[cut]
        return self.images[cut], self.domain[cut], place


def sides(batch: Batch, made: Translations, *, placed: bool) -> dict[str, Side]:
    """The sides that the generator learns to imitate, ``presence`` only where findings are added.

    A translation lies where its image does.

    Args:
        batch: prepared.
        made: translations of the batch.
        placed: whether places count.
    """
    count, domain = len(batch["image"]), batch["domain"]
    here, there = (batch["place"], batch["absent_place"]) if placed else (None, None)

    def side(images, kinds, places):
        place = jnp.concatenate(places) if placed else None
        return Side(jnp.concatenate(images), count, jnp.concatenate(kinds), place)

    found = {
        "absence": side([batch["absent"], made.x_pa], [domain, domain], [there, here]),
    }
    if made.x_ap is not None:
        images, kinds, places = [batch["image"], made.x_ap], [domain, domain], [here, there]
        if made.x_pq is not None:
            images, kinds = [*images, made.x_pq], [*kinds, batch["other"]]
            places = [*places, here]
        found["presence"] = side(images, kinds, places)
    return found
