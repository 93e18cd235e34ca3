"""``bin/reproduce it_vae``: the transformers, disentanglement, registration.

With ``--data`` (a folder of MNIST's files) the published table of D scores is repeated on real
digits; without it that part is left out. The study of augmentations is
`it_vae_augmentation`. Overrides (``--config.KEY=VALUE``) go to the trainings of
IT-VAEs for disentanglement and registration.
"""

import time

import jax

from jaxmedgen.configuration import load_config
from jaxmedgen.experiments import groupwise, transformer_checks
from jaxmedgen.experiments import latent_pictures as pictures
from jaxmedgen.experiments.reproductions import it_vae_factors as factors
from jaxmedgen.experiments.reproductions.record import Claim, Options, Part, Reproduction, joined
from jaxmedgen.experiments.reproductions.trained_model import overridden, trained_model

TAKES = ("data",)
GROUP_STEPS = 800
GROUP_ARMS = {"affine": "affinediff", "velocity": "svf"}

PUBLISHED = {
    "MNIST, ELBO / log p / D": {
        arm: " / ".join(map(str, numbers)) for arm, numbers in factors.PUBLISHED.items()
    },
}


def reproduce(options: Options) -> Reproduction:
    """Runs everything that is not finished yet and checks the claims."""
    parts = [
        transformer_part(),
        factors.glyph_part(options),
        factors.transformer_part(options),
    ]
    if options.data:
        parts.append(factors.digit_part(options))
    parts.append(registration_part(options))
    found, notes = joined(parts), ()
    if not options.data:
        notes = ("Without --data (a folder of MNIST's files) the table of digits is left out.",)
    return Reproduction(
        system="it_vae",
        seeds=factors.GLYPH_SEEDS,
        seconds=found.seconds,
        claims=found.claims,
        published=PUBLISHED,
        table=found.table,
        pictures=found.pictures,
        notes=(*found.notes, *notes),
    )


def transformer_part() -> Part:
    """Claim 1: the maps are what they should be."""
    started = time.perf_counter()
    found = transformer_checks.families()
    flat, solid = (transformer_checks.cpab(cells, 1) for cells in ((2, 4), (2, 2, 2)))
    large = transformer_checks.cpab((2, 4), 2)
    mean, largest = transformer_checks.velocity_inverse()
    inverse = max(flat["inverse"], solid["inverse"])
    parity = max(flat["parity"], solid["parity"])
    claims = (
        _below("identity at zero parameters, all families, 1e-6 voxels", found["identity"], 100, 6),
        _below("affinediff: inverse, 1e-6 half images", found["affinediff_inverse"], 10, 6),
        _below("CPAB 2x4, 2x2x2, theta ~ N(0, 1): inverse, 1e-3 voxels", inverse, 5, 3),
        _below("CPAB 2x4, theta ~ N(0, 2^2): inverse, 1e-3 voxels", large["inverse"], 30, 3),
        _below("CPAB tessellations of another dimension than published", _wrong(), 0),
        _below("CPAB: map of the orthonormal and the nodal basis, 1e-3 voxels", parity, 2, 3),
        _below("velocity, 7 squarings, up to 10 voxels: inverse, mean, voxels", mean, 0.01),
        _below("velocity, 7 squarings, up to 10 voxels: inverse, largest, voxels", largest, 0.3),
        _below("gradient against finite differences, relative", found["gradient"], 0.02),
        Claim(
            "least determinant over all families",
            "> 0",
            found["determinant"],
            None,
            found["determinant"] > 0,
        ),
    )
    return Part(time.perf_counter() - started, claims)


def registration_part(options: Options) -> Part:
    """Claim 4: a learned template registers a group."""
    rows, found, shown, seconds = [], {}, {}, 0.0
    for name, family in GROUP_ARMS.items():
        config = load_config(f"it_vae:cpu,data=population,arm=groupwise,transformer={family}")
        with config.unlocked():
            config.steps = config.checkpoint_every = GROUP_STEPS
            config.criterion.warm_up = 3 * GROUP_STEPS // 10
        folder = f"groupwise/{name}"
        model = trained_model(options, folder, overridden(config, options))
        system, variables, sources = model.system, model.variables, model.sources
        groups = {"train": groupwise.group(sources.train), "test": groupwise.group(sources.test)}
        centre = jax.jit(system.parameters)(variables, groups["train"][0]).mean(0)
        for part, (image, label) in groups.items():
            aligned = groupwise.register_group(system, variables, image, label, centre=centre)
            agreed = groupwise.agreement(image, label, aligned, sources.info.num_classes)
            found[name, part] = agreed
            rows.append(_group_row(name, part, len(image), agreed))
            if part == "train":
                shown[f"template_{name}"] = pictures.template(
                    system, variables, image, aligned.image
                )
        seconds += model.seconds
    curved, linear = found["velocity", "train"], found["affine", "train"]
    gains = [x.dice_after - x.dice_before for x in (curved, linear)]
    narrower = 1 - curved.deviation_after / curved.deviation_before
    claims = (
        factors.at_least(
            "groupwise registration, velocity: mean pairwise Dice gained", gains[0], 0.15
        ),
        factors.at_least("groupwise registration, velocity: deviation reduced by", narrower, 0.3),
        Claim(
            "groupwise registration: Dice gained by affine maps lies between 0 and velocity's",
            f"> 0 and < {gains[0]:.3f}",
            gains[1],
            None,
            bool(0 < gains[1] < gains[0]),
        ),
    )
    header = (
        f"Groupwise registration, {GROUP_STEPS} steps, one seed:\n\n"
        "| maps | group | Dice before | Dice after | deviation before | after "
        "| folded voxels, % | inverse error, voxels |\n" + "|" + "---|" * 8
    )
    return Part(seconds, claims, header + "\n" + "\n".join(rows), shown)


def _group_row(name: str, part: str, size: int, found: groupwise.Agreement) -> str:
    return (
        f"| {name} | {part}, {size} | {found.dice_before:.3f} | {found.dice_after:.3f} "
        f"| {found.deviation_before:.3f} | {found.deviation_after:.3f} | {found.folding:.2f} "
        f"| {found.inverse_error:.4f} |"
    )


def _wrong() -> int:
    return transformer_checks.cpab_wrong_dimensions()


def _below(name: str, measured: float | int, most: float | int, exponent: int = 0) -> Claim:
    """The claim that a number is small; with an exponent both are told in powers of ten."""
    shown = float(measured) * 10**exponent
    return Claim(name, f"<= {most:g}", shown, None, bool(shown <= most))
