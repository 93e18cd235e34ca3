"""The latent space of a trained model of label maps: stacks in, stacks out.

What `systems.shape` models offer (`CanCodeLabels`) is jitted once for groups of slices of one size;
volumes (3D models) are a single latent vector, slices one each. Clinical indices of what is decoded
are compared with those of real stacks in as many slices (`equalised_indices`).
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.data.stacks import Stack
from jaxmedgen.metrics.cardiac import ClinicalIndices, clinical_indices
from jaxmedgen.metrics.plausibility import clean_label
from jaxmedgen.ops.latent_paths import SLICES, equalise_slices
from jaxmedgen.ops.slice_interpolation import interpolate_labels
from jaxmedgen.systems.base import CanCodeLabels, PlayerVariables

_SLICES, _VOLUMES = 32, 2
"""Label maps that are coded at a time."""


@dataclasses.dataclass(frozen=True)
class LabelSpace:
    """A trained model's encoder and decoder on the host.

    Attributes:
        encoder: ``[g, *s] -> (mean [g, d], log-variance [g, d])``, jitted.
        decoder: ``[g, d] -> [g, *s]``, jitted.
        shape: of a label map, two or three axes.
        heart: whether label values 1, 2, 3 are the heart's, so that slices can be cleaned.
    """

    encoder: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    decoder: Callable[[jax.Array], jax.Array]
    shape: tuple[int, ...]
    heart: bool = True

    @property
    def volumes(self) -> bool:
        """Whether a latent vector stands for a whole stack."""
        return len(self.shape) == 3

    @property
    def _group(self) -> int:
        return _VOLUMES if self.volumes else _SLICES

    def encode(
        self, label: Int[np.ndarray, " n *s"], rng: np.random.Generator | None = None
    ) -> Float[np.ndarray, "n d"]:
        """Latent vectors: posterior means, or with a generator one draw of each posterior."""
        found = [
            [np.asarray(x)[:count] for x in self.encoder(part)]
            for part, count in _groups(label, self._group)
        ]
        mean, log_variance = (np.concatenate(parts).astype(np.float64) for parts in zip(*found))
        if rng is None:
            return mean
        return mean + np.exp(0.5 * log_variance) * rng.standard_normal(mean.shape)

    def decode(
        self, latents: Float[np.ndarray, "n d"], clean: bool = True
    ) -> Int[np.ndarray, " n *s"]:
        """Label maps; of hearts, slices are cleaned: one piece a class, no holes."""
        groups = _groups(latents, self._group)
        parts = [np.asarray(self.decoder(part))[:n] for part, n in groups]
        label = np.concatenate(parts)
        if not (clean and self.heart):
            return label
        slices = label.reshape(-1, *label.shape[-2:])
        return np.stack([clean_label(each) for each in slices]).reshape(label.shape)

    def embed(
        self, stack: Stack, count: int = SLICES, rng: np.random.Generator | None = None
    ) -> Float[np.ndarray, "n d"]:
        """A stack equalised to `count` slices: latents along it, or one latent of the volume.

        A generator draws from the posteriors, which the reference implementation does for its
        statistics; without one the means are taken.
        """
        if not self.volumes:
            return equalise_slices(self.encode(stack.label, rng), count)
        return self.encode(_equalised(stack.label, self.shape[0])[None], rng)

    def stack(self, latents: Float[np.ndarray, "n d"], clean: bool = True) -> np.ndarray:
        """The label map ``[slices, h, w]`` of one subject's latents."""
        made = self.decode(latents, clean)
        return made[0] if self.volumes else made


def open_space(
    system: CanCodeLabels, variables: PlayerVariables, shape: tuple[int, ...], heart: bool = True
) -> LabelSpace:
    """The space of a trained model.

    Args:
        system: a model of label maps.
        variables: of its trained state.
        shape: of its label maps.
        heart: as in `LabelSpace`.
    """
    encode = jax.jit(system.encode_labels)
    decode = jax.jit(system.decode_labels)
    return LabelSpace(
        lambda label: encode(variables, jnp.asarray(label, jnp.int32)),
        lambda z: decode(variables, jnp.asarray(z, jnp.float32)),
        shape,
        heart,
    )


def equalised_indices(
    label: Int[np.ndarray, "n h w"], spacing: Sequence[float | int], count: int = SLICES
) -> ClinicalIndices:
    """Clinical indices of a stack in `count` slices from its first to its last one.

    n slices stand for n slabs, equalised ones only for the length between the middles of the first
    and the last: the same heart loses a tenth of its volume at 6 slices. Slices are interpolated by
    signed distances: the indices are the subject's, not those of what a model makes of it.

    Args:
        label: the stack, of at least two slices.
        spacing: mm between its slices, rows and columns.
        count: slices, at least two.
    """
    between = (len(label) - 1) * float(spacing[0]) / (count - 1)
    return clinical_indices(_equalised(label, count), (between, *spacing[1:]))


def _equalised(label, count):
    """A stack at `count` equal steps from its first to its last slice, by signed distances."""
    positions = np.linspace(0, len(label) - 1, count)
    return interpolate_labels(label, positions, classes=int(label.max()) + 1)


def _groups(array, size):
    """Groups of `size` rows, the last one filled up, and how many of them count.

    One size for all, so that one program is compiled.
    """
    for start in range(0, len(array), size):
        part = array[start : start + size]
        yield np.concatenate([part, np.repeat(part[:1], size - len(part), 0)]), len(part)
