"""The arms of an ablation: what may be done to the training images of a segmenter.

An arm is a description and a function that sees the labelled training subjects of one run - and
nothing else, so that no test or validation subject can leak into a learned augmentation - and
returns how the segmenter is to be trained. A system adds its arm with one line in `ARMS`.
"""

import difflib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxmedgen.augment.presets import NAMES, preset
from jaxmedgen.configuration import load_config
from jaxmedgen.experiments.arm import Arm, ArmInputs, ArmTraining, joined_arm
from jaxmedgen.experiments.learned_arms import (
    genseg_arm,
    label_vae_arm,
    latent_arm,
    paddit_arm,
    rhvae_arm,
    spade_arm,
)


def preset_arm(description: str, name: str, **changes: Any) -> Arm:
    """An arm that is a named augmentation preset and nothing learned."""
    settings = {"augment.preset": name, "augment.synthesis_probability": 0.0, **changes}
    return Arm(description, lambda inputs: ArmTraining(settings), quick=True)


_THICKEST = 8.0
"""mm, thickest slices that synthesis imitates."""


def synthesis_arm(inputs: ArmInputs) -> ArmTraining:
    """Half of the images synthesised; slices as thick as scans have them, whatever the voxels.

    The generative model counts thickness in voxels: five of a coarse grid would be wider than the
    structures to be found.
    """
    thickest = max(1.0, _THICKEST / max(inputs.labelled.info.spacing))
    return ArmTraining(
        {
            "augment.preset": "light",
            "augment.synthesis_probability": 0.5,
            "augment.synthesis.thickness": (1.0, thickest, 0.5),
        }
    )


_IN_THE_PLANE = {"trivial": "p1", "V": "p2", "C4": "p4", "D4": "p4m"}


def network_arm(description: str, name: str, control: str = "") -> Arm:
    """An arm that exchanges the segmenter's network for one of `configs/gcnn_unet.py`.

    It gets the depth of the network it replaces and its first level's channels as the number to
    match; its head sees as many features as that network's, not only those of one group element.
    Where that arm turns images or averages over turns, these are quarter turns. Its control is the
    arm of the same family of networks without the symmetry.
    """

    def prepare(inputs: ArmInputs) -> ArmTraining:
        old, flat = inputs.config.net, len(inputs.labelled.info.spacing) == 2
        config = load_config(f"gcnn_unet:cpu,arm={name},group=C4")
        net, turned = config.net.to_dict(), config.augment.group
        net["depth"] = len(old.features) - 1
        if net["kind"] == "group":
            net["base_filters"] = old.features[0]
            net["head_features"] = 0 if net["group"] == "trivial" else old.features[0]
            net |= {key: old[key] for key in ("norm", "dtype", "remat", "dropout")}
        if net["kind"] == "group" and not flat:
            net["axis"] = _slice_axis(inputs.labelled.info.spacing)
        if flat:
            if net.get("group") == "O":
                raise ValueError(
                    "the cube's turns are those of volumes: for images take c4, or gunet-d4 with "
                    "its flips"
                )
            groups = {key: net[key] for key in ("group", "average_over") if net.get(key)}
            net |= {key: _IN_THE_PLANE[group] for key, group in groups.items()}
            turned = turned and _IN_THE_PLANE[turned]
        settings = {"augment.preset": "none", "augment.synthesis_probability": 0.0}
        settings["augment.group"] = turned
        return ArmTraining({"system": config.system, "net": net, **settings})

    return Arm(description, prepare, joins="network", control=control, quick=True)


def _slice_axis(spacing: Sequence[float]) -> int:
    """The axis across slices: that whose voxel size is unlike the others', else the last."""
    for axis, size in enumerate(spacing):
        first, second = (other for i, other in enumerate(spacing) if i != axis)
        if np.isclose(first, second, rtol=1e-3) and not np.isclose(size, first, rtol=1e-3):
            return axis
    return -1


ARMS: dict[str, Arm] = {
    "none": preset_arm("the scans as they are", "none"),
    "light": preset_arm("flips, small affine, mild intensity changes", "light"),
    "classic": preset_arm(
        "nnU-Net's transforms: affine, flips, noise, blur, contrast, low resolution, gamma",
        "classic",
    ),
    "diffeomorphic": preset_arm(
        "random diffeomorphisms (stationary velocity fields) with mild intensity changes",
        "diffeomorphic",
    ),
    "affine": preset_arm("rotation, scale, shear and shift", "affine"),
    "elastic": preset_arm("elastic deformation by a B-spline grid", "elastic"),
    "elastic_noise": preset_arm("elastic deformation by smoothed noise", "elastic_noise"),
    "diffeo": preset_arm("random diffeomorphisms (stationary velocity fields) alone", "diffeo"),
    "geodesic": preset_arm("random diffeomorphisms (geodesics) alone", "geodesic"),
    "gamma": preset_arm("random gamma", "gamma"),
    "bias": preset_arm("random bias fields", "bias"),
    "companions": preset_arm("noise, blur, brightness, contrast, low resolution", "companions"),
    "mixup": preset_arm("weighted means of two images and their labels", "mixup"),
    "manifold_mixup": preset_arm("the same of features at a random level", "manifold_mixup"),
    "cutout": preset_arm("boxes blotted out", "cutout"),
    "cutmix": preset_arm("boxes of another image and label pasted", "cutmix"),
    "carvemix": preset_arm("lesions of another image pasted", "carvemix"),
    "moex_in": preset_arm("exchange of instance moments in the network", "moex_in"),
    "moex_pono": preset_arm("exchange of positional moments in the network", "moex_pono"),
    "interpolation": preset_arm("family: mixup and manifold mixup", "interpolation"),
    "corruption": preset_arm("family: cutout and cutmix", "corruption"),
    "intensification": preset_arm("family: gamma, bias field, noise, blur, ...", "intensification"),
    "deformation": preset_arm("family: affine, elastic, diffeomorphic", "deformation"),
    "nnunet3d": preset_arm("nnU-Net's default policy", "nnunet3d"),
    "nnunet_brats": preset_arm("nnU-Net's strong policy for tumours", "nnunet_brats"),
    "nnunet3d+moex_pono": preset_arm("nnU-Net's with moment exchange", "nnunet3d+moex_pono"),
    "synthesis": Arm(
        "half of the images synthesised from label maps with random contrast, the others light",
        synthesis_arm,
        joins="images",
        control="light",
        quick=True,
    ),
    "itvae-naive": latent_arm("IT-VAE: deformations of its prior", "naive"),
    "itvae-instance": latent_arm("IT-VAE: deformations near the subject's own", "instance"),
    "itvae-instance3": latent_arm("the same, three times as far", "instance", temperature=3),
    "itvae-mixed": latent_arm("IT-VAE: subjects in the perspective of others", "mixed"),
    "itvae-dirichlet": latent_arm(
        "IT-VAE: subjects in a random mean of all perspectives", "mixed", blend="dirichlet"
    ),
    "itvae-fixed": latent_arm(
        "IT-VAE: others' perspective added to the subject's own", "mixed", unwarp=False
    ),
    "itvae-decoded": latent_arm(
        "IT-VAE: decoded images of appearances like the subject's, others' perspective",
        "mixed",
        redrawn=True,
    ),
    "paddit": paddit_arm("PADDIT: subjects warped to their template by HMC samples", "posterior"),
    "paddit-map": paddit_arm("PADDIT with the most probable deformations only", "map"),
    "paddit-geodesic": paddit_arm("PADDIT with geodesics for the exponential", "geodesic"),
    "paddit-cross": paddit_arm("PADDIT's samples of other subjects", "cross"),
    "paddit-swap": paddit_arm("PADDIT: subjects in the shape of others", "swap"),
    "paddit-prior": paddit_arm("PADDIT's prior without likelihood", "prior"),
    "paddit-generic": paddit_arm("elastic deformation as large as PADDIT's", "generic"),
    "genseg": Arm(
        "GenSeg: the rarest class added where it is absent",
        genseg_arm,
        control="none",
        whole_images=True,
    ),
    "labelvae": Arm(
        "light, half of the images of new label maps from a label VAE, repainted where they differ "
        "from the subject's",
        label_vae_arm,
        joins="images",
        control="light",
    ),
    "spade": spade_arm("light, half of the images synthetic: SPADE, drawn styles"),
    "spade+labelvae": spade_arm("the same of new label maps from a label VAE", new_labels=True),
    "spade-3d": spade_arm("as spade, whole volumes instead of slices", volumetric=True),
    "rhvae": Arm(
        "light, half of the images synthetic: Riemannian VAE",
        rhvae_arm,
        joins="images",
        control="light",
    ),
    "c4": network_arm(
        "scans as they are, U-Net equivariant under quarter turns", "c4_parameters", "gunet"
    ),
    "octahedral": network_arm(
        "scans as they are, U-Net equivariant under the cube's turns", "o", "gunet"
    ),
    "gunet": network_arm("scans as they are, the group U-Net without symmetry", "baseline"),
    "gunet-wide": network_arm(
        "the same with as many feature maps as c4, four times its parameters",
        "baseline_wide",
        "gunet",
    ),
    "gunet-turned": network_arm(
        "quarter turns, the U-Net without symmetry", "baseline_rotation", "gunet"
    ),
    "gunet-averaged": network_arm(
        "scans as they are, the U-Net without symmetry averaged over quarter turns",
        "baseline_average",
        "gunet",
    ),
    "gunet-c4-features": network_arm(
        "as c4, with as many feature maps as gunet", "c4_features", "gunet"
    ),
    "gunet-c4-filters": network_arm("as c4, with as many filters as gunet", "c4_filters", "gunet"),
    "gunet-v": network_arm("U-Net equivariant under half turns about all axes", "v", "gunet"),
    "gunet-d4": network_arm("U-Net equivariant under quarter turns and flips", "d4", "gunet"),
    "steerable": network_arm("U-Net equivariant under all rotations, 3D", "steerable"),
}


def prepare_arm(arm: Arm, inputs: ArmInputs) -> tuple[ArmTraining, float]:
    """Runs an arm's preparation; returns its result and the seconds that its model cost."""
    start = time.perf_counter()
    training = arm.prepare(inputs)
    took = time.perf_counter() - start
    return training, took if training.seconds is None else training.seconds


def select_arms(names: Sequence[str]) -> dict[str, Arm]:
    """Arms by name, in the given order.

    ``a+b`` joins augmentation presets, the first of which may be an arm of learned deformations, of
    added images, or of another network: ``itvae-mixed+classic``, ``spade+labelvae+nnunet3d``,
    ``c4+light``.

    Raises:
        ValueError: an unknown or repeated name (the nearest known one is named), or names that
            cannot be joined.
    """
    chosen: dict[str, Arm] = {}
    for name in (n.strip() for n in names):
        if name in chosen:
            raise ValueError(f"arm '{name}' is named twice")
        chosen[name] = _arm(name)
    return chosen


def described_arms() -> str:
    """All arms and presets, one a line, with what they do; for a terminal."""
    width = max(map(len, ARMS))
    lines = [f"{name:{width}}  {arm.description}" for name, arm in ARMS.items()]
    presets = ", ".join(name for name in NAMES if name not in ARMS)
    joining = ", ".join(name for name, arm in ARMS.items() if arm.joins)
    return "\n".join(
        [*lines, f"presets: {presets}", f"with +PRESET (as paddit+classic): {joining}, presets"]
    )


def _arm(name: str) -> Arm:
    if name in ARMS:
        return ARMS[name]
    first, *others = name.split("+")
    longer = "+".join((first, *others[:1]))
    if others and longer in ARMS and ARMS[longer].joins:  # its own name has a +
        first, others = longer, others[1:]
    first_names = tuple(dict.fromkeys((*ARMS, *NAMES)))
    for part, known in ((first, first_names), *((other, NAMES) for other in others)):
        if part not in known:
            near = difflib.get_close_matches(part, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(known)}"
            raise ValueError(f"unknown arm '{part}': {hint}")
    if first in NAMES:
        preset(name, (1.0, 1.0, 1.0), classes=2)  # refuses what does not go together
        return preset_arm(f"presets {' and '.join((first, *others))}", name)
    if not ARMS[first].joins:
        joining = ", ".join(known for known, arm in ARMS.items() if arm.joins)
        raise ValueError(f"arm '{first}' cannot be joined with presets: these can: {joining}")
    joined = "+".join(others)
    preset(joined, (1.0, 1.0, 1.0), classes=2)
    return joined_arm(ARMS[first], joined)
