"""What patterns of realism and usefulness mean."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is known of a synthetic set; NaN where it was not measured.

    Attributes:
        fid_ratio: FID over that of held-out real images (the floor); 1 is as good as real.
        label_fidelity: Dice of a real-data segmenter on the synthetic images.
        real_fidelity: the same segmenter's Dice on held-out real images.
        gain_source: Dice gained on the vendors that were trained on, beside augmentation.
        gain_unseen: Dice gained on other vendors.
        gain_without_augmentation: Dice gained where images are not augmented.
        retention_honest: Dice with few real and synthetic images over that of all real ones;
            generator of the same few.
        retention_full: the same with a generator of all real images.
        recall: share of real images within the synthetic manifold.
    """

    fid_ratio: float = math.nan
    label_fidelity: float = math.nan
    real_fidelity: float = math.nan
    gain_source: float = math.nan
    gain_unseen: float = math.nan
    gain_without_augmentation: float = math.nan
    retention_honest: float = math.nan
    retention_full: float = math.nan
    recall: float = math.nan


LOW_FID = 3.0
"""FID over the floor's up to which images count as realistic."""

GAIN = 0.01
"""Dice that counts as a gain."""

RETAINED = 0.97
"""Retention that counts as a replacement of real images."""


def readings(found: Findings) -> tuple[str, ...]:
    """The readings whose pattern is there; comparisons with NaN are never true."""
    low_fidelity = found.label_fidelity < found.real_fidelity - 0.1
    realistic, unrealistic = found.fid_ratio <= LOW_FID, found.fid_ratio > LOW_FID
    gains = found.gain_source >= GAIN or found.gain_unseen >= GAIN
    patterns = (
        (
            realistic and low_fidelity,
            "low FID, low label fidelity: realistic images with wrong annotations - harmful",
        ),
        (
            unrealistic and gains,
            "high FID, good downstream: an effect of domain randomisation; keep",
        ),
        (
            found.gain_source >= GAIN and found.gain_unseen < GAIN,
            "gain on the training vendors, none on others: variety of styles is missing",
        ),
        (
            found.gain_without_augmentation >= GAIN
            and max(found.gain_source, found.gain_unseen) < GAIN,
            "gain only without conventional augmentation: synthetic images repeat what "
            "augmentation does",
        ),
        (
            found.retention_full >= RETAINED > found.retention_honest,
            "real images can be replaced only by a generator that has seen all of them: "
            "information leaked through the generator",
        ),
        (
            realistic and found.recall < 0.5,
            "low FID, low recall: images are realistic and few of the real ones' kinds are there "
            "(mode collapse)",
        ),
        (
            realistic and not gains and not math.isnan(found.gain_source),
            "images look real and bring no gain: a generator that passes the image metrics alone "
            "is not accepted",
        ),
    )
    return tuple(text for there, text in patterns if there)
