"""What a system is, and the abilities it may have.

A system is a frozen dataclass of nets and settings. It says how its players are initialised and
optimised and what the objectives are; the training loop does the rest. Abilities are protocols: the
command line asks for an ability (`isinstance(system, CanPredict)`), never for a class.

A module of a system offers ``build(config, info) -> System``, which the configuration names in
``config.system``.
"""

import importlib
from collections.abc import Collection, Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, Key

from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.train.state import TrainState
from jaxmedgen.train.trainable import Trainable
from jaxmedgen.types import Batch, Variables

PlayerVariables = Mapping[str, Variables]
"""Flax variables by player, as `evaluation_variables` gives them."""


@runtime_checkable
class System(Trainable, Protocol):
    """The least a system has: ``players``, ``init``, ``objectives`` and ``prepare``."""


@runtime_checkable
class CanPredict(Protocol):
    """Gives class probabilities for an image."""

    def predict(
        self, variables: PlayerVariables, image: Float[Array, "b *s c"]
    ) -> Float[Array, "b *s k"]:
        """Class probabilities, summing to one over the last axis."""
        ...


@runtime_checkable
class CanClassify(Protocol):
    """Gives class probabilities of whole images."""

    def classify(
        self, variables: PlayerVariables, image: Float[Array, "b *s c"]
    ) -> Float[Array, "b k"]:
        """Class probabilities, summing to one over the last axis."""
        ...


@runtime_checkable
class CanValidate(Protocol):
    """Tells how well it does on held-out samples by its own loss."""

    def validation_loss(self, variables: PlayerVariables, batch: Batch) -> Float[Array, " b"]:
        """The loss of each sample, nothing drawn."""
        ...


@runtime_checkable
class CanSample(Protocol):
    """Makes labelled images from a batch of label maps.

    A false ``makes_samples`` says that this configuration of the system makes none.
    """

    def sample(
        self, variables: PlayerVariables, keys: Key[Array, " b"], label: Int[Array, " b *s"]
    ) -> tuple[Float[Array, "b *s c"], Int[Array, " b *s"]]:
        """Synthetic images with their labels."""
        ...


@runtime_checkable
class CanShow(Protocol):
    """Shows what it makes while it trains."""

    def show(
        self, variables: PlayerVariables, keys: Key[Array, " b"], batch: Batch
    ) -> dict[str, Float[Array, " b *s c"]]:
        """Images to look at, by name, one row each: of a prepared batch and of noise."""
        ...


@runtime_checkable
class CanStylise(Protocol):
    """Makes images from label maps in the styles of other images.

    A true ``needs_style`` says that it cannot do without: it draws no styles of its own.
    """

    def stylise(
        self,
        variables: PlayerVariables,
        label: Int[Array, " b *s"],
        style: Float[Array, "b *r c"],
    ) -> Float[Array, "b *s c"]:
        """Synthetic images of the label maps."""
        ...


@runtime_checkable
class CanInterpolateStyles(Protocol):
    """Makes images from label maps in styles between those of two images."""

    def interpolate(
        self,
        variables: PlayerVariables,
        label: Int[Array, " b *s"],
        first: Float[Array, "b *r c"],
        last: Float[Array, "b *q c"],
        places: Float[Array, " steps"],
    ) -> Float[Array, "steps b *s c"]:
        """Images of the label maps in styles on the way: that of `first` at 0, of `last` at 1."""
        ...


@runtime_checkable
class CanNameStyles(Protocol):
    """Samples in styles that have names, say vendors; none where ``style_names`` is empty."""

    @property
    def style_names(self) -> tuple[str, ...]:
        """The styles."""
        ...

    def sample_style(
        self,
        variables: PlayerVariables,
        keys: Key[Array, " b"],
        label: Int[Array, " b *s"],
        style: str,
    ) -> tuple[Float[Array, " b *s c"], Int[Array, " b *s"]]:
        """As ``sample``, in one of `style_names`."""
        ...


@runtime_checkable
class CanTranslate(Protocol):
    """Shows images as they would be in another domain: without a finding, by another scanner."""

    @property
    def domain_names(self) -> tuple[str, ...]:
        """The domains."""
        ...

    def translate(
        self,
        variables: PlayerVariables,
        keys: Key[Array, " b"],
        image: Float[Array, "b *s c"],
        target: str,
    ) -> Float[Array, "b *s c"]:
        """The images in the domain `target`; keys decide what the images leave open."""
        ...


@runtime_checkable
class CanReconstruct(Protocol):
    """Shows what a model keeps of an image."""

    def reconstruct(
        self, variables: PlayerVariables, image: Float[Array, "b *s c"]
    ) -> Float[Array, "b *s c"]:
        """The images as the model sees them."""
        ...


@runtime_checkable
class CanDeform(Protocol):
    """Makes new labelled images by moving given ones the way the population varies."""

    def deform(
        self,
        variables: PlayerVariables,
        keys: Key[Array, " b"],
        image: Float[Array, "b *s c"],
        label: Int[Array, " b *s"],
    ) -> tuple[Float[Array, "b *s c"], Int[Array, " b *s"]]:
        """Deformed images and their labels, moved by the same maps."""
        ...


@runtime_checkable
class CanCodeLabels(Protocol):
    """Turns label maps into short vectors and vectors into label maps."""

    def encode_labels(
        self, variables: PlayerVariables, label: Int[Array, " b *s"]
    ) -> tuple[Float[Array, " b d"], Float[Array, " b d"]]:
        """Mean and log-variance of each map's latent vector."""
        ...

    def decode_labels(
        self, variables: PlayerVariables, z: Float[Array, " b d"]
    ) -> Int[Array, " b *s"]:
        """The most likely label map of each latent vector."""
        ...


@runtime_checkable
class CanAlign(Protocol):
    """Registers a group of images: brings each into one common frame."""

    def align(
        self, variables: PlayerVariables, image: Float[Array, "b *s c"]
    ) -> tuple[Float[Array, "b *s n"], Float[Array, "b *s n"]]:
        """Displacements in voxels: those that show images in the frame, and their inverses."""
        ...


@runtime_checkable
class CanBuildVolume(Protocol):
    """Builds a volume from planes of several views, some of which may be missing."""

    @property
    def views(self) -> tuple[int, ...]:
        """Numbers of the views that are looked at."""
        ...

    def handles(self, views: Collection[int]) -> bool:
        """Whether it was trained to do with these views alone."""
        ...

    def build_volume(
        self,
        variables: PlayerVariables,
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
    ) -> Float[Array, " b *s"]:
        """Foreground probabilities of the likeliest volume; `available` is 1 where a plane is."""
        ...


@runtime_checkable
class CanSampleVolume(Protocol):
    """Draws volumes that fit planes."""

    def sample_volume(
        self,
        variables: PlayerVariables,
        keys: Key[Array, " b"],
        planes: Float[Array, " b *p v"],
        available: Float[Array, " b v"],
    ) -> Float[Array, " b *s"]:
        """Foreground probabilities of one draw a sample."""
        ...


@runtime_checkable
class CanCheckRecords(Protocol):
    """Tells on the host which records it cannot be trained on or asked about."""

    def check_record(self, record: Mapping[str, Any]) -> None:
        """Raises a ValueError for a record with values that the compiled step would misread."""
        ...


@runtime_checkable
class HasAtlas(Protocol):
    """Summarises its training subjects by a template."""

    def atlas(self, variables: PlayerVariables) -> Any:
        """``image`` and ``variance`` ``[*s, c]``, ``label [*s]``, ``modes [m, d, *s, c]``.

        Modes are the template moved along principal directions by d standard deviations.
        """
        ...


def evaluation_variables(state: TrainState) -> dict[str, Variables]:
    """Each player's variables for use after training (averaged where there is an average)."""
    return {name: player.evaluation_variables() for name, player in state.players.items()}


def build_system(config: Any, info: DatasetInfo) -> System:
    """Builds the system that ``config.system`` names by its module.

    Args:
        config: a configuration of `configs/`.
        info: classes, channels and spacing of the data.

    Raises:
        ValueError: the module does not exist or has no ``build``.
    """
    try:
        module = importlib.import_module(config.system)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"config.system='{config.system}' is not a module of a system ({error}): "
            "see jaxmedgen/systems"
        ) from error
    if not hasattr(module, "build"):
        raise ValueError(f"{config.system} has no build(config, info): it is not a system")
    return module.build(config, info)
