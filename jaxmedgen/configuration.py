"""Configurations: plain Python files, ``configs/NAME.py:size,key=value``, with checked overrides.

A file offers ``get_config(argument) -> ml_collections.ConfigDict``. The argument after the colon
names a size (``cpu``, ``gpu``, ``pod``) and options (``arm=classic``). Single values are overridden
by ``--config.key=value``; a mistyped key or type is an error that names the nearest key.
"""

import ast
import difflib
import importlib.util
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

SIZES = ("cpu", "gpu", "pod")


class ConfigError(ValueError):
    """A configuration cannot be read or changed; the message is one line for the user."""


def parse_argument(argument: str, options: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Splits ``'gpu,arm=classic'`` into ``{'size': 'gpu', 'arm': 'classic'}``.

    Args:
        argument: what follows the colon; empty means the ``cpu`` size and all first options.
        options: the allowed values of each option; the first is its default.

    Raises:
        ConfigError: an unknown size, option or value.
    """
    chosen = {"size": SIZES[0]} | {name: next(iter(values)) for name, values in options.items()}
    allowed = {"size": SIZES, **options}
    for part in filter(None, (p.strip() for p in argument.split(","))):
        name, value = part.split("=", 1) if "=" in part else ("size", part)
        if name not in allowed:
            raise ConfigError(_unknown("option", name, allowed))
        if value not in allowed[name]:
            raise ConfigError(_unknown(f"value of '{name}'", value, allowed[name]))
        chosen[name] = value
    return chosen


def config_folder() -> pathlib.Path:
    """The folder of shipped configurations, in a checkout or an installed package."""
    package = pathlib.Path(__file__).resolve().parent
    for folder in (package.parent / "configs", package / "configs"):
        if (folder / "unet.py").exists():
            return folder
    raise ConfigError(f"no configs folder beside {package}: reinstall jaxmedgen")


def load_config(name: str, overrides: Mapping[str, str] | None = None) -> ConfigDict:
    """Reads ``PATH.py[:argument]`` (or the bare name of a shipped one) and applies overrides.

    Args:
        name: for example ``configs/unet.py:cpu,arm=classic`` or ``unet:gpu``.
        overrides: dotted key -> text as typed after ``--config.``.

    Raises:
        ConfigError: no such file, bad argument, unknown key or wrong type.
    """
    text, _, argument = name.partition(":")
    path = pathlib.Path(text)
    if not path.is_file():
        shipped = config_folder() / pathlib.Path(text).with_suffix(".py").name
        if not shipped.exists():
            names = sorted(p.stem for p in config_folder().glob("*.py") if p.stem != "__init__")
            raise ConfigError(_unknown("configuration", text, names))
        path = shipped
    spec = importlib.util.spec_from_file_location(f"jaxmedgen_config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path} has no get_config(argument): it is not a configuration")
    config = module.get_config(argument).lock()
    for key, value in (overrides or {}).items():
        set_value(config, key, value)
    return config


def set_value(config: ConfigDict, key: str, text: str) -> None:
    """Sets a dotted key from the text a user typed, with the type that is there already.

    Raises:
        ConfigError: the key does not exist (the nearest is named) or the type does not fit.
    """
    keys = flatten(config)
    if key not in keys:
        if any(k.startswith(key + ".") for k in keys):
            raise ConfigError(
                f"config.{key} cannot be set, it is a group: set one of config.{key}.*"
            )
        name = key.rsplit(".", 1)[-1]
        same = [k for k in keys if k.rsplit(".", 1)[-1] == name]
        near = same or difflib.get_close_matches(key, keys, n=1, cutoff=0.0)
        raise ConfigError(f"unknown key 'config.{key}': did you mean 'config.{near[0]}'?")
    node = config
    *groups, last = key.split(".")
    for group in groups:
        node = node[group]
    node[last] = _convert(key, text, node[last])


def _convert(key: str, text: str, old: Any) -> Any:
    if isinstance(old, str):
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        value = text
    if isinstance(old, bool) or old is None:
        fits = old is None or isinstance(value, bool)
    elif isinstance(old, float):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        value = float(value) if fits else value
    elif isinstance(old, int):
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif isinstance(old, tuple | list):
        value = (value,) if isinstance(value, int | float) else value
        fits = isinstance(value, tuple | list)
        value = tuple(value) if fits else value
    else:
        fits = isinstance(value, type(old))
    if not fits:
        raise ConfigError(
            f"config.{key}={text!r} is not a {type(old).__name__}: its value now is {old!r}"
        )
    return value


def flatten(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """``{'a': {'b': 1}} -> {'a.b': 1}``."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict | dict) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def to_json(config: ConfigDict) -> str:
    """The configuration as indented JSON."""
    return json.dumps(config.to_dict(), indent=2, default=str) + "\n"


def from_json(text: str) -> ConfigDict:
    """Reads back `to_json`; lists become tuples."""

    def tuples(value: Any) -> Any:
        if isinstance(value, list):
            return tuple(tuples(v) for v in value)
        if isinstance(value, dict):
            return {k: tuples(v) for k, v in value.items()}
        return value

    return ConfigDict(tuples(json.loads(text))).lock()


def differences(one: ConfigDict, other: ConfigDict) -> list[str]:
    """Dotted keys whose values differ, as ``key: one -> other``."""
    a, b = flatten(from_json(to_json(one))), flatten(from_json(to_json(other)))
    return [f"{k}: {a.get(k)} -> {b.get(k)}" for k in sorted(a | b) if a.get(k) != b.get(k)]


_OFF = (None, False, 0, "", "none", ())
"""Values of settings that do nothing: those that an older version did not know."""


def changes_since(before: ConfigDict, now: ConfigDict) -> list[str]:
    """`differences` of a stored configuration and today's.

    Settings that have come with a newer version are no difference where they are off.
    """
    known, wanted = flatten(before), flatten(now)
    new = {name for name, value in wanted.items() if name not in known and value in _OFF}
    return [line for line in differences(before, now) if line.split(":")[0] not in new]


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(known)}"
    return f"unknown {kind} '{name}': {hint}"
