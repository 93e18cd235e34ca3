"""A kind of data asked of a configuration that lacks its settings: told in a line."""

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar

Built = TypeVar("Built")

_HOMES = {
    "lesions": "configs/augmentations.py",
    "rotated_lesions": "configs/gcnn_unet.py",
    "hemispheres": "configs/genseg.py",
    "findings": "configs/genseg.py",
}


def missing_settings_told(build: Callable[..., Built]) -> Callable[..., Built]:
    """`build` of a ``data`` group (and more), which names the setting that the group lacks.

    Raises:
        ValueError: in place of ml_collections' AttributeError.
    """

    @functools.wraps(build)
    def told(data: Any, *more: Any, **named: Any) -> Built:
        try:
            return build(data, *more, **named)
        except AttributeError as error:
            reason = error.args[0] if error.args else None
            if not isinstance(reason, KeyError):
                raise
            key = re.match(r"'(\w+)'", str(reason.args[0]))
            home = _HOMES.get(data.kind, "a configuration of this kind of data")
            raise ValueError(
                f"data.kind='{data.kind}' needs the setting data.{key[1] if key else reason}, "
                f"which this configuration does not have: use {home}"
            ) from error

    return told
