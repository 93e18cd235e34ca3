"""What all verbs share: ``--config.key=value`` overrides, one-line errors, start-up of JAX."""

import argparse
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

from jaxmedgen.configuration import ConfigError

OVERRIDE = "--config."
EXPECTED_ERRORS = (ValueError, FileNotFoundError, PermissionError, FloatingPointError, OSError)
"""Errors whose message is written for the user; others are bugs and keep their traceback."""


class Parser(argparse.ArgumentParser):
    """An argument parser that keeps the layout of descriptions and points to ``--help``."""

    def __init__(self, **keywords: object) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **keywords
        )

    def error(self, message: str) -> None:
        """One line instead of the whole usage."""
        print(f"error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Takes ``--config.key=value`` and ``--config.key value`` out of the arguments.

    Raises:
        ConfigError: a key without a value.
    """
    rest, overrides = [], {}
    pending = None
    for argument in arguments:
        if pending is not None:
            overrides[pending], pending = argument, None
        elif argument.startswith(OVERRIDE):
            key, equals, value = argument[len(OVERRIDE) :].partition("=")
            if equals:
                overrides[key] = value
            else:
                pending = key
        else:
            rest.append(argument)
    if pending is not None:
        raise ConfigError(f"{OVERRIDE}{pending} needs a value: {OVERRIDE}{pending}=VALUE")
    return rest, overrides


def run(main: Callable[[Sequence[str]], int | None], arguments: Sequence[str] | None = None) -> int:
    """Runs a verb: expected errors become one line on standard error and exit status 2.

    Interrupted runs (SIGTERM, Ctrl-C) print how to go on and exit with 130. The environment
    variable ``JAXMEDGEN_TRACEBACK=1`` shows tracebacks.
    """
    from jaxmedgen.train.checkpoint import CheckpointError
    from jaxmedgen.train.interrupt import Interrupted, abandoned_work

    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return main(arguments) or 0
    except (Interrupted, KeyboardInterrupt) as stopped:
        # An exception is true even where it says nothing, as that of Ctrl-C.
        hint = str(stopped) or "run the same command again to go on"
        print(f"\nstopped: {hint}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        if abandoned_work():
            os._exit(130)
        return 130
    except BrokenPipeError:
        return 0
    except (*EXPECTED_ERRORS, CheckpointError) as error:
        if os.environ.get("JAXMEDGEN_TRACEBACK"):
            raise
        notes = "".join(f" ({note})" for note in _notes(error))
        print(f"error: {error}{notes}", file=sys.stderr)
        return 2


def _notes(error: BaseException) -> list[str]:
    """Notes for the user; JAX adds one about its own traceback, which is not shown."""
    return [n for n in getattr(error, "__notes__", []) if "JAX_TRACEBACK_FILTERING" not in n]


def workdir_argument(parser: argparse.ArgumentParser) -> None:
    """``--workdir``."""
    parser.add_argument(
        "--workdir", type=pathlib.Path, required=True, help="folder of the run's files"
    )


def scoring_arguments(parser: argparse.ArgumentParser) -> None:
    """``--regions`` and ``--absent``."""
    parser.add_argument(
        "--regions",
        default="",
        metavar="NAME=CLASS+CLASS,...",
        help="score unions of classes (numbers or names) instead: ET=3,TC=1+3,WT=1+2+3",
    )
    parser.add_argument(
        "--absent",
        choices=("excluded", "right"),
        default="excluded",
        help="what a structure counts that neither reference nor prediction has; right: Dice 1",
    )


def prepare_jax(distributed: bool = False) -> None:
    """Starts JAX: quiet logs, several processes where asked, and says what it runs on.

    Raises:
        ValueError: a GPU is there but JAX sees none.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import jax

    if distributed:
        jax.distributed.initialize()
    backend = jax.default_backend()
    if backend == "cpu" and os.path.exists("/dev/nvidia0") and not os.environ.get("JAX_PLATFORMS"):
        raise ValueError(
            "this machine has an NVIDIA GPU but JAX sees only the CPU: run "
            f"{sys.executable} -m pip install 'jax[cuda13]', or set JAX_PLATFORMS=cpu"
        )
    if jax.process_index() == 0:
        kinds = sorted({d.device_kind for d in jax.devices()})
        print(f"jax {jax.__version__} on {len(jax.devices())} x {', '.join(kinds)}")
