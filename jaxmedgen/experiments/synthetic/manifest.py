"""``manifest.json`` of a synthetic set: what made it, and of whom each image is.

``bin/evaluate --synthetic`` reads it: subjects decide which images are pairs (SSIM, PSNR, LPIPS)
and whose copies are sought, styles are the groups of FID by vendor.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxmedgen.train.environment import write_json

FILE = "manifest.json"


class SetLog:
    """Gathers a manifest image by image."""

    def __init__(self) -> None:
        """Nothing was made yet."""
        self._digest, self._labels, self._entries = hashlib.sha256(), set(), []

    def __len__(self) -> int:
        return len(self._entries)

    def add(
        self,
        name: str,
        subject: str,
        style: str,
        image: Float[np.ndarray, "*s c"],
        label: Int[np.ndarray, "*s"],
        slice_axis: int | None = None,
    ) -> None:
        """One more image.

        Args:
            name: of the case, as its files have it.
            subject: real case whose label map was taken or changed.
            style: vendor, ``own``, or ``random-NUMBER``.
            image: that was made.
            label: its label map.
            slice_axis: axis of its files that was made slice by slice, None for images made whole.
        """
        label = np.ascontiguousarray(label, np.int32)
        self._digest.update(np.ascontiguousarray(image, np.float32).tobytes())
        self._digest.update(label.tobytes())
        self._labels.add(hashlib.sha256(label.tobytes()).hexdigest())
        entry = {"name": name, "subject": subject, "style": style}
        self._entries.append(entry if slice_axis is None else entry | {"slice_axis": slice_axis})

    def manifest(
        self,
        *,
        generator: str,
        deformation: str,
        style: str,
        seed: int,
        class_names: Sequence[str] = (),
    ) -> dict[str, Any]:
        """The whole manifest.

        Args:
            generator: what made the images.
            deformation: of the label maps, ``none`` if they are the subjects' own.
            style: policy, ``own`` where each image has the style of its subject's image.
            seed: of all draws.
            class_names: of the label values, which are classes and no values of a user's files.
        """
        return {
            "version": self._digest.hexdigest()[:12],
            "generator": generator,
            "deformation": deformation,
            "style": style,
            "seed": seed,
            "class_names": list(class_names),
            "count": len(self._entries),
            "anatomies": len(self._labels),
            "styles": len({_style_of(entry) for entry in self._entries}),
            "images": list(self._entries),
        }

    def write(self, folder: pathlib.Path, **settings: Any) -> None:
        """Writes the manifest; settings as `manifest` takes them."""
        write_json(folder / FILE, self.manifest(**settings))


def read_manifest(folder: pathlib.Path) -> Mapping[str, Any]:
    """The manifest of a written set; empty for folders that something else wrote."""
    path = folder / FILE
    return json.loads(path.read_text()) if path.exists() else {}


def _style_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Every subject's own style is another one."""
    return (entry["style"], entry["subject"]) if entry["style"] == "own" else (entry["style"],)
