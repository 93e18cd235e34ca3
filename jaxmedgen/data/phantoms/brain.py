"""A cohort of synthetic brain MR subjects bent from the MNI152 atlas; unlimited, embedded.

Subject i = atlas o exp(-v_i) with v_i = sum_k z_ik m_k + w_i: a few hidden modes m_k with
coefficients z_ik ~ N(0, 1) (cut at 2.5) and an individual, finer random velocity w_i. Partial
volumes are deformed and then turned into labels; every contrast is scanned from them
(`scanner.py`). Anatomy depends on (seed, subject) alone: the same subject can be had at another
resolution, contrast or site. Lengths are those of MNI space, in which the skull holds 2.1 l
(measured adults: 1.3 to 1.5 l, Matsumae et al., J Neurosurg 84, 1996), some 15 % more an axis.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxmedgen.data.phantoms import atlas as atlas_module
from jaxmedgen.data.phantoms import lesions as lesion_module
from jaxmedgen.data.phantoms.deform import (
    VELOCITY_GRID,
    enlarge,
    exponential,
    flexible,
    modes,
    sample,
    smooth_noise,
)
from jaxmedgen.data.phantoms.scanner import CONTRASTS, SITES, Site, scan
from jaxmedgen.data.phantoms.template import Grid
from jaxmedgen.data.sources import DatasetInfo, Record

LATENT, ANATOMY, LESION, SCAN = range(4)
"""Streams of random numbers of one subject."""


@dataclasses.dataclass(frozen=True)
class BrainCohort:
    """Random access to `size` subjects; the same (seed, start + index) is the same subject.

    Attributes:
        size: number of subjects.
        shape: voxels an axis (right, anterior, superior) over a cube of 216 mm, or of 192 mm
            without skull.
        seed: of the hidden family and of all subjects.
        modes: dimension of the hidden family.
        contrasts: image channels, keys of `scanner.CONTRASTS`: t1, t1ce, t2, flair.
        classes: label scheme: ``tissue`` (CSF, grey, white matter) or ``anatomy`` (7 structures).
        lesions: kinds that every subject has: ``wmh``, ``tumour``; adds a last class ``lesion``.
        site: a key of `scanner.SITES` or a scanner of your own.
        start: number of the first subject; choose disjoint ranges for training and test.
        individual: strength of the individual variation; 0 leaves the hidden family alone.
        skull: show the head round the brain; without it the image is brain-extracted.
    """

    size: int
    shape: tuple[int, ...] = (48, 48, 48)
    seed: int = 0
    modes: int = 6
    contrasts: tuple[str, ...] = ("t1",)
    classes: str = "tissue"
    lesions: tuple[str, ...] = ()
    site: str | Site = "a"
    start: int = 0
    individual: float = 1.0
    skull: bool = True

    def __post_init__(self) -> None:
        for given, allowed, what in (
            (self.contrasts, CONTRASTS, "contrast"),
            ((self.classes,), atlas_module.CLASSES, "classes"),
            (self.lesions, lesion_module.KINDS, "lesion"),
            ((self.site,) if isinstance(self.site, str) else (), SITES, "site"),
        ):
            unknown = [name for name in given if name not in allowed]
            if unknown:
                raise ValueError(f"unknown {what} {unknown[0]!r}: choose from {', '.join(allowed)}")
        if self.size < 0 or self.start < 0 or self.modes < 0:
            raise ValueError(
                f"size {self.size}, start {self.start}, modes {self.modes}: none may be negative"
            )
        atlas_module.subject_grid(self.shape, self.skull)

    @property
    def grid(self) -> Grid:
        """Box and voxels of every subject."""
        return atlas_module.subject_grid(self.shape, self.skull)

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """Voxel -> mm, RAS+."""
        return self.grid.affine

    @property
    def info(self) -> DatasetInfo:
        """Class, channel and case names, spacing."""
        names = ("background", *atlas_module.CLASSES[self.classes])
        return DatasetInfo(
            class_names=names + (("lesion",) if self.lesions else ()),
            channel_names=self.contrasts,
            spacing=self.grid.spacing,
            case_names=tuple(f"brain-{self.seed}-{self.start + i:05d}" for i in range(self.size)),
        )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Record:
        """Image (z-scored over the volume) and label of one subject."""
        parts, texture = self._bend(index)
        names = tuple(parts)
        volumes = np.stack([parts[name] for name in names], axis=-1)
        image = np.stack(
            [self._scan(index, c, names, volumes, texture) for c in self.contrasts], axis=-1
        )
        label = self._classes(parts).argmax(-1).astype(np.int32)
        return {"image": image, "label": label}

    def probabilities(self, index: int) -> Float[np.ndarray, "x y z k"]:
        """Partial volume of every class, background first; sums to 1."""
        return self._classes(self._bend(index)[0])

    def latent(self, index: int) -> Float[np.ndarray, " m"]:
        """Hidden coefficients of one subject."""
        draw = self._rng(index, LATENT).standard_normal(self.modes)
        return np.clip(draw, -2.5, 2.5).astype(np.float32)

    def displacement(self, index: int) -> Float[np.ndarray, "x y z 3"]:
        """Field u in voxels: subject(x) = atlas(x + u(x))."""
        return self._displacement(index, self._lesions(index)) / np.float32(self.grid.spacing)

    def _rng(self, index: int, *stream: int) -> np.random.Generator:
        if not 0 <= index < self.size:
            raise IndexError(f"subject {index} of a cohort of {self.size}")
        entropy = np.random.SeedSequence((self.seed, self.start + int(index)), spawn_key=stream)
        return np.random.Generator(np.random.Philox(entropy))

    def _lesions(self, index: int) -> lesion_module.Lesions:
        return lesion_module.draw(self._rng(index, LESION), self.lesions)

    def _displacement(
        self, index: int, lesions: lesion_module.Lesions
    ) -> Float[np.ndarray, "x y z 3"]:
        """Subject to atlas, in mm, at the subject's voxels."""
        grid = VELOCITY_GRID
        velocity = np.tensordot(self.latent(index), modes(self.modes, self.seed), 1)
        if self.individual:
            rng = self._rng(index, ANATOMY)
            coarse, fine = (smooth_noise(rng, grid, scale, 3) for scale in (24.0, 11.0))
            own = (1.6 * coarse + 1.3 * fine) * flexible()
            velocity = velocity + np.float32(self.individual) * own
        if "tumour" in self.lesions:
            velocity = velocity + lesion_module.mass_effect(lesions)
        voxels = -velocity / np.float32(grid.spacing)
        return enlarge(exponential(voxels) * np.float32(grid.spacing), self.grid)

    def _bend(
        self, index: int
    ) -> tuple[dict[str, Float[np.ndarray, "x y z"]], Float[np.ndarray, "x y z"]]:
        """Partial volumes of the structures, lesion parts included, and the texture."""
        reference = atlas_module.atlas(self.grid, self.skull)
        lesions = self._lesions(index)
        positions = self._displacement(index, lesions)
        for axis, mm in enumerate(self.grid.axes()):
            positions[..., axis] += mm
        points = positions.reshape(-1, 3)
        affine = reference.grid.affine
        voxels = (points - np.float32(affine[:3, 3])) / np.float32(np.diag(affine)[:3])
        # Most of the box is air: sample the rest only.
        last = np.int32(reference.grid.shape) - 1
        nearest = np.clip(np.rint(voxels).astype(np.int32), 0, last)
        kept = np.flatnonzero(reference.occupied[tuple(nearest.T)])
        maps = np.zeros((len(points), reference.maps.shape[-1]), np.float32)
        maps[kept] = sample(reference.maps, voxels[kept])
        parts = {name: maps[:, k] for k, name in enumerate(reference.structures)}
        texture = maps[:, len(parts)]
        if self.lesions:
            painted = lesion_module.paint(lesions, points, parts["white"])
            share = sum(painted.values())
            brain = sum(parts[name] for name in atlas_module.BRAIN[2:])
            inside = np.minimum(share, brain) / np.maximum(share, 1e-6)
            keep = 1 - np.minimum(share / np.maximum(brain, 1e-6), 1)
            for name in atlas_module.BRAIN[2:]:
                parts[name] = parts[name] * keep
            texture = texture * (1 - np.minimum(share, 1))
            parts |= {name: part * inside for name, part in painted.items()}
        return {n: p.reshape(self.shape) for n, p in parts.items()}, texture.reshape(self.shape)

    def _classes(self, parts: dict[str, Float[np.ndarray, "x y z"]]) -> np.ndarray:
        groups = atlas_module.CLASSES[self.classes]
        soft = [sum(parts[name] for name in members) for members in groups.values()]
        if self.lesions:
            soft.append(parts["lesion"] + parts["core"] + parts["rim"])
        background = np.maximum(1 - sum(soft), 0)
        return np.stack([background, *soft], axis=-1).astype(np.float32)

    def _scan(
        self,
        index: int,
        contrast: str,
        names: tuple[str, ...],
        volumes: Float[np.ndarray, "x y z k"],
        texture: Float[np.ndarray, "x y z"],
    ) -> Float[np.ndarray, "x y z"]:
        site = SITES[self.site] if isinstance(self.site, str) else self.site
        # A site's name is not in the stream: one noise draw, scaled by each site's settings.
        rng = self._rng(index, SCAN, tuple(CONTRASTS).index(contrast))
        image = scan(rng, contrast, site, names, volumes, texture, self.grid)
        if not self.skull:
            image = image * (volumes.sum(-1) > 0.5)
        return (image - image.mean()) / np.maximum(image.std(), 1e-6)
