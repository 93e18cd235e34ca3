"""Digits among clutter that is made of digits: images with and without one, and its mask.

The generator of GenSeg (Vorontsov et al., arXiv 1904.01636, published implementation): on a
background of N(0, 0.01^2) a digit is placed at a random position; then pieces of clutter, random
crops of other digits, are pasted. Where a crop is positive it takes the place of what was there; if
both together exceed 1 the larger is kept. Images without a digit have clutter alone. The mask is
where the digit exceeds 1/2, whether clutter hides it or not.

Digits are those of an MNIST folder or, without one, procedural glyphs (`glyphs.py`).
"""

import dataclasses
import functools
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.data.mnist import read_digits
from jaxmedgen.data.phantoms import glyphs
from jaxmedgen.data.randomness import sample_generator
from jaxmedgen.data.semi_labelled import semi_labelled
from jaxmedgen.data.sources import DatasetInfo, Record, Source, in_memory

Fold = Literal["train", "validation", "test"]
FOLDS = ("train", "validation", "test")
KINDS = 10
_NOISE = 0.01
_TRAIN = 60_000  # MNIST's own split, where both of its parts are there
_VALIDATION = 500
_POOL = 2000
"""Glyphs a fold."""
_IN_MEMORY = 2**26  # pixels


@dataclasses.dataclass(frozen=True)
class ClutteredDigits:
    """`size` pairs of an image with a digit and one without, each a function of (seed, index).

    Sample i shows digit i of its fold (again from the start after the last); folds share no digit.

    Attributes:
        size: number of pairs.
        shape: pixels of the images.
        fold: whose digits.
        clutter: pieces an image.
        piece: pixels an axis of a piece.
        folder: MNIST's files; "" for glyphs.
        glyph: pixels an axis of a glyph's picture.
        domains: groups of kinds of digits, each a class of its own: 1, or up to 10.
        seed: of all pairs, and of the glyphs.
    """

    size: int
    shape: tuple[int, ...] = (48, 48)
    fold: Fold = "train"
    clutter: int = 8
    piece: int = 10
    folder: str = ""
    glyph: int = 28
    domains: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.fold not in FOLDS:
            raise ValueError(f"unknown fold '{self.fold}': choose one of {', '.join(FOLDS)}")
        digit = self.digits[0].shape[-1]
        if len(self.shape) != 2 or min(self.shape) <= digit:
            raise ValueError(f"shape {self.shape}: give two axes of more than {digit} pixels")
        if not 1 <= self.piece <= digit:
            raise ValueError(f"piece={self.piece}: take 1 to {digit} pixels, the digits' size")
        if not 1 <= self.domains <= KINDS:
            raise ValueError(f"domains={self.domains}: take 1 to {KINDS}")

    @property
    def info(self) -> DatasetInfo:
        """One channel; one foreground class a domain."""
        names = ("digit",)
        if self.domains > 1:
            names = tuple(f"digit_{k}" for k in range(self.domains))
        return DatasetInfo(
            class_names=("background", *names),
            channel_names=("ink",),
            spacing=(1.0, 1.0),
            case_names=tuple(f"{self.fold}-{i:06d}" for i in range(self.size)),
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """``image`` and ``absent`` ``[h, w, 1]``, ``label``, and the ``domain`` (from 0)."""
        image, _, mask, absent = self._compose(index)
        domain = int(self.kind(index)) * self.domains // KINDS
        return {
            "image": image[..., None],
            "absent": absent[..., None],
            "label": mask * np.int32(1 + domain),
            "domain": np.int32(domain),
        }

    def kind(self, index: int) -> int:
        """Which digit a sample shows, 0 to 9."""
        kinds = self.digits[1]
        return int(kinds[index % len(kinds)])

    def without(self, index: int) -> Float[np.ndarray, "h w 1"]:
        """The true image of a sample with its digit left out: same background, same clutter."""
        return self._compose(index)[1][..., None]

    @property
    def digits(self) -> tuple[Float[np.ndarray, "n d d"], Int[np.ndarray, " n"]]:
        """All digits of the fold in [0, 1], and which they are."""
        if self.folder:
            return _mnist(self.folder, self.fold)
        return _glyphs(self.glyph, self.fold, self.seed)

    def _compose(self, index: int) -> tuple[np.ndarray, ...]:
        rng = sample_generator(self.seed, FOLDS.index(self.fold) * 2**32, index, self.size)
        digits, _ = self.digits
        own = index % len(digits)
        present, absent = (rng.normal(0, _NOISE, self.shape) for _ in range(2))
        clean, mask = present.copy(), np.zeros(self.shape, np.int32)
        digit = digits[own]
        corner = [rng.integers(n - digit.shape[0]) for n in self.shape]
        place = tuple(slice(c, c + digit.shape[0]) for c in corner)
        present[place][digit > 0] = digit[digit > 0]
        mask[place][digit > 0.5] = 1
        for canvases in ((present, clean), (absent,)):
            for _ in range(self.clutter):
                self._paste(rng, canvases, digits, own)
        present, clean, absent = (a.astype(np.float32) for a in (present, clean, absent))
        return present, clean, mask, absent

    def _paste(self, rng, canvases, digits, own) -> None:
        """One piece of clutter, the same on every canvas."""
        other = (own + rng.integers(1, len(digits))) % len(digits)
        room = digits.shape[1] - self.piece
        start = rng.integers(room + 1, size=2)
        crop = digits[other][tuple(slice(s, s + self.piece) for s in start)]
        place = tuple(slice(c, c + self.piece) for c in rng.integers(
            [n - self.piece + 1 for n in self.shape]
        ))  # fmt: skip
        for canvas in canvases:
            under = canvas[place]
            over = np.where(crop + under <= 1, crop, np.maximum(crop, under))
            canvas[place] = np.where(crop > 0, over, under)


def cluttered_fold(data: Any, fold: Fold) -> ClutteredDigits:
    """The pairs of one fold of a configuration's ``data`` group.

    What it does not name (``clutter``, ``piece``, ``glyph``, ``domains``) is as in
    `ClutteredDigits`.
    """
    named = {name: data.get(name) for name in ("clutter", "piece", "glyph", "domains")}
    return ClutteredDigits(
        size={"train": data.train, "validation": data.validation, "test": data.test}[fold],
        shape=tuple(data.shape),
        fold=fold,
        folder=data.folder,
        seed=data.seed,
        **{name: value for name, value in named.items() if value is not None},
    )


def cluttered_parts(data: Any) -> tuple[Source, Source, Source]:
    """Training, validation and test pairs of a configuration's ``data`` group.

    Of the training pairs a share ``data.labelled`` (by default all) keeps its masks, all of them of
    the digit ``data.labelled_kind`` (-1, or by default: of any).
    """
    train, *others = (cluttered_fold(data, fold) for fold in FOLDS)
    kind, allowed = data.get("labelled_kind", -1), None
    if kind >= 0:
        allowed = [i for i in range(len(train)) if train.kind(i) == kind]
    share = data.get("labelled", 1.0)
    parts = (semi_labelled(train, share, seed=data.seed, candidates=allowed), *others)
    # Small sets are made once; large ones while training goes on.
    small = sum(map(len, parts)) * int(np.prod(data.shape)) <= _IN_MEMORY
    return tuple(map(in_memory, parts)) if small else parts


@functools.lru_cache(maxsize=6)
def _mnist(folder: str, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Digits of a fold: MNIST's own split, or the last seventh for testing of what there is."""
    images, labels = read_digits(folder)
    first = _TRAIN if len(images) > _TRAIN else len(images) - len(images) // 7
    if first < 2 * _VALIDATION:
        raise ValueError(
            f"{folder} has {len(images)} digits: training and validation need {2 * _VALIDATION}"
        )
    order = np.random.RandomState(0).permutation(first)
    chosen = {
        "train": order[:-_VALIDATION],
        "validation": order[-_VALIDATION:],
        "test": np.arange(first, len(images)),
    }[fold]
    return images[chosen].astype(np.float32) / 255, labels[chosen].astype(np.int32)


@functools.lru_cache(maxsize=6)
def _glyphs(pixels: int, fold: Fold, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Procedural glyphs of a fold, as large in their picture as MNIST's digits are."""
    rng = sample_generator(seed, 2**40, FOLDS.index(fold), len(FOLDS))
    kinds = rng.integers(KINDS, size=_POOL)
    pictures = [
        glyphs.draw(
            np.array(
                [
                    kind,
                    rng.uniform(0.1, 0.2),
                    rng.uniform(-0.35, 0.35),
                    rng.uniform(-np.pi / 8, np.pi / 8),
                    rng.uniform(1.2, 1.6),
                    0.0,
                    0.0,
                ]
            ),
            (pixels, pixels),
        )
        for kind in kinds
    ]
    return np.stack(pictures).astype(np.float32), kinds.astype(np.int32)
