"""Folders of images alone, where a model needs label maps too: told before anything is read.

Such a folder is good for models of images. For a segmenter it is most often one whose label maps
lie under another name (`masks/`, `Labels/`).
"""

import pathlib

from jaxmedgen.data.layouts import Layout
from jaxmedgen.data.nifti import is_volume_file
from jaxmedgen.data.untrusted import DataError


def refuse_unlabelled(layout: Layout) -> None:
    """Passes unless no case of a folder has a label map.

    Broken cases are not counted; whoever reads the files lists them.

    Raises:
        DataError: not one label map, with the folder that may hold them under another name.
    """
    if not layout.cases or any(case.label is not None for case in layout.cases):
        return
    images = layout.cases[0].images[0].parent
    if images == layout.folder:
        raise DataError(
            f"{layout.folder}: holds images and no label maps; put the scans in images/ and their "
            "label maps, named alike, in labels/"
        )
    # imagesTr is paired with labelsTr.
    wanted = images.name.replace("images", "labels")
    raise DataError(
        f"{layout.folder}: no {wanted}/ beside {images.name}/; "
        + _remedy(layout.folder, images, wanted)
    )


def _remedy(folder: pathlib.Path, images: pathlib.Path, wanted: str) -> str:
    others = [
        place.name
        for place in sorted(folder.iterdir())
        if place.is_dir()
        and place != images
        and not place.name.startswith("images")
        and any(is_volume_file(file) for file in place.iterdir())
    ]
    if len(others) == 1:
        return f"rename {others[0]}/ to {wanted}/ if it holds the label maps"
    return f"put the label maps there, named like the images{_among(others)}"


def _among(others: list[str]) -> str:
    return f" (there are {', '.join(f'{name}/' for name in others[:5])})" if others else ""
