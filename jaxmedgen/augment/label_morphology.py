"""Morphology on label maps, class by class: thicker and thinner walls, wider and narrower cavities.

Integer maps must not be dilated as grey values, where the largest number would win everywhere.
Here every class is a mask, and a list of priorities says who may overwrite whom. By default the
left ventricle's blood goes before muscle, muscle before the right ventricle: the right ventricle
never overwrites muscle.

``kind`` is one of `RULES`:

==============  ==================================================================================
dilate          the class grows into those of lower priority and the background
erode           what the class loses becomes the class around it (blood: muscle) or background
open, close     their combinations: spikes go, gaps are filled
thicken_epi     the wall's outer contour moves outward
thin_epi        the wall's outer contour moves inward; one ring of muscle always stays
thicken_endo    the cavity's border moves inward
thin_endo       the cavity's border moves outward; one ring of muscle always stays
dilate_mass     the cavity grows into the muscle, which grows outward until it has its old volume
==============  ==================================================================================

The rules of the wall take the muscle (class ``muscle``) and its cavity (class ``cavity``).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxmedgen.ops.distance import signed_distance
from jaxmedgen.ops.morphology import (
    binary_close,
    binary_open,
    dilate,
    elliptical_element,
    erode,
)

RULES = (
    *("dilate", "erode", "open", "close"),
    *("thicken_epi", "thin_epi", "thicken_endo", "thin_endo", "dilate_mass"),
)


@dataclasses.dataclass(frozen=True)
class LabelMorphology:
    """A random morphological change of label maps.

    Attributes:
        kind: one of `RULES`.
        label: the class that is changed by the first four; the rules of the wall ignore it.
        iterations: least and largest number of repetitions, drawn evenly.
        probability: of a change.
        priority: foreground classes, the strongest first.
        cavity: class of the blood that muscle encloses.
        muscle: class of the muscle.
        in_slices: the element has one voxel along the first of three axes (thick slices).
    """

    kind: str
    label: int = 2
    iterations: tuple[int, int] = (1, 2)
    probability: float | int = 0.5
    priority: tuple[int, ...] = (1, 2, 3)
    cavity: int = 1
    muscle: int = 2
    in_slices: bool = True

    def __post_init__(self) -> None:
        if self.kind not in RULES:
            raise ValueError(f"kind '{self.kind}': choose one of {', '.join(RULES)}")
        if self.label not in self.priority:
            raise ValueError(f"label {self.label} is not in priority={self.priority}: add it")
        if not 0 <= self.iterations[0] <= self.iterations[1]:
            raise ValueError(f"iterations {self.iterations}: give the least and the largest number")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability {self.probability}: give 0 to 1")

    def __call__(self, keys: Key[Array, " b"], label: Int[Array, " b *s"]) -> Int[Array, " b *s"]:
        """Changed label maps, one draw a sample."""
        low, high = self.iterations
        pairs = jax.vmap(lambda key: jax.random.split(key))(keys)
        on = jax.vmap(lambda key: jax.random.bernoulli(key, self.probability))(pairs[:, 0])
        counts = jax.vmap(lambda key: jax.random.randint(key, (), low, high + 1))(pairs[:, 1])
        return self.apply(label, jnp.where(on, counts, 0))

    def apply(
        self, label: Int[Array, " b *s"], iterations: Int[Array, " b"] | int
    ) -> Int[Array, " b *s"]:
        """The change with a given number of repetitions; 0 changes nothing."""
        element = None
        if label.ndim == 4 and self.in_slices:
            element = elliptical_element((1, 3, 3))
        counts = jnp.broadcast_to(jnp.asarray(iterations, jnp.int32), label.shape[:1])
        change = self._of_class if self.kind in RULES[:4] else self._of_wall
        changed = change(label, counts, element)
        on = (counts > 0).reshape(-1, *(1,) * (label.ndim - 1))
        return jnp.where(on, changed, label)

    def _of_class(self, label, counts, element):
        old = label == self.label
        operate = {"dilate": dilate, "erode": erode, "open": binary_open, "close": binary_close}
        new = operate[self.kind](old, counts, element=element)
        stronger = self.priority[: self.priority.index(self.label)]
        for other in stronger:
            new = new & (label != other)
        around = self.muscle if self.label == self.cavity else 0
        return jnp.where(new, self.label, jnp.where(old, around, label)).astype(label.dtype)

    def _of_wall(self, label, counts, element):
        cavity, muscle = label == self.cavity, label == self.muscle
        heart = cavity | muscle
        if self.kind == "thicken_epi":
            new_cavity, new_heart = cavity, dilate(heart, counts, element=element)
        elif self.kind == "thin_epi":
            ring = dilate(cavity, 1, element=element) & heart
            new_cavity, new_heart = cavity, erode(heart, counts, element=element) | cavity | ring
        elif self.kind == "thicken_endo":
            new_cavity, new_heart = erode(cavity, counts, element=element), heart
        elif self.kind == "thin_endo":
            inside = erode(heart, 1, element=element)
            grown = dilate(cavity, counts, element=element) & inside
            new_cavity, new_heart = grown | cavity, heart
        else:
            new_cavity = dilate(cavity, counts, element=element)
            new_heart = new_cavity | regrown(muscle, heart, new_cavity)
        new_muscle = new_heart & ~new_cavity
        out = jnp.where(heart, 0, label)
        out = jnp.where(new_muscle, self.muscle, out)
        return jnp.where(new_cavity, self.cavity, out).astype(label.dtype)


def regrown(
    muscle: Bool[Array, " b *s"], heart: Bool[Array, " b *s"], cavity: Bool[Array, " b *s"]
) -> Bool[Array, " b *s"]:
    """As many voxels outside of the cavity as the muscle had, those nearest to the old heart.

    Nearest: of the least signed distance to muscle and old cavity together, so that the outer
    contour moves outward evenly. In volumes each first-axis slice keeps its own volume.
    """
    volume = muscle.ndim == 4
    flat = (-1, *muscle.shape[2:]) if volume else muscle.shape
    muscle_, heart_, cavity_ = (x.reshape(flat) for x in (muscle, heart, cavity))
    distance = jnp.where(cavity_, jnp.inf, signed_distance(heart_))
    ranked = _rank(distance.reshape(distance.shape[0], -1))
    wanted = muscle_.reshape(muscle_.shape[0], -1).sum(-1, keepdims=True)
    return (ranked < wanted).reshape(muscle.shape) & ~cavity


def _rank(values: Float[Array, "b n"]) -> Int[Array, "b n"]:
    """Place of every value in ascending order; equal values keep their order."""
    order = jnp.argsort(values, axis=-1, stable=True)
    return jnp.argsort(order, axis=-1, stable=True)
