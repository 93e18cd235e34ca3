"""The ``jaxmedgen`` command: ``jaxmedgen VERB ...``, the same verbs as the executables in bin/."""

import importlib
import signal
import sys
import threading
from types import FrameType

VERBS = {
    "train": "train a configuration",
    "evaluate": "score a trained run on its test subjects or a folder",
    "predict": "segment scans: NIfTI in, NIfTI out",
    "sample": "write synthetic labelled scans",
    "ablate": "compare augmentation arms over label budgets, with a report",
    "reproduce": "run a system's claims and record the numbers",
    "bench": "measure throughput against peers",
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb; the exit status is 0, 2 (error) or 130 (interrupted)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {verb:10} {text}" for verb, text in VERBS.items())
        print(f"usage: jaxmedgen VERB [options]\n\n{lines}\n\njaxmedgen VERB --help says more")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        print(f"error: unknown verb '{verb}': choose one of {', '.join(VERBS)}", file=sys.stderr)
        return 2
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    try:
        from jaxmedgen.cli.common import run

        return run(importlib.import_module(f"jaxmedgen.cli.{verb}").main, rest)
    except KeyboardInterrupt:  # while modules are still being imported
        print("\nstopped: run the same command again to go on", file=sys.stderr)
        return 130


def _terminated(number: int, _: FrameType | None) -> None:
    """SIGTERM before or after training, which has its own handler, ends a verb like Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
