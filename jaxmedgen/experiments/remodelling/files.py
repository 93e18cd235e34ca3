"""Label maps in, classes and reconstructed shapes out: ``bin/predict`` with a classifier."""

import csv
import io
import pathlib

import jax
import numpy as np
from rich.console import Console

from jaxmedgen import configuration
from jaxmedgen.data.atomic import write_atomically
from jaxmedgen.data.nifti import write_volume
from jaxmedgen.data.shape_parts import shape_folder
from jaxmedgen.experiments.runs import TrainedRun
from jaxmedgen.experiments.shape_generation import batch_of, in_chunks
from jaxmedgen.systems.base import CanReconstruct

_CHUNK = 16


def classify_files(
    run: TrainedRun, folder: pathlib.Path, output: pathlib.Path, *, kind: str, console: Console
) -> None:
    """Classifies the cases of a folder of label maps.

    Args:
        run: a trained classifier of shapes.
        folder: ``CASE_ED.nii.gz`` and ``CASE_ES.nii.gz``, or ``CASE.nii.gz`` of one organ; a
            table is not read.
        output: folder for ``probabilities.csv`` and, of a model that decodes, for
            ``CASE_PHASE.nii.gz``: probabilities in the box of the model, where it lies in the
            file's space.
        kind: checkpoint, ``last`` or ``best``.
        console: where to print.

    Raises:
        DataError: a file cannot be used, or a case is not complete.
    """
    config = configuration.from_json(configuration.to_json(run.config))
    with config.unlocked():
        config.data.kind, config.data.folder = "folder", str(folder)
    source = shape_folder(config.data, run.info, labelled=False)
    decodes = isinstance(run.system, CanReconstruct) and config.get("criterion", {}).get(
        "reconstruction", True
    )
    variables, _ = run.variables(kind)

    @jax.jit
    def look(variables, image):
        found = {"chance": run.system.classify(variables, image)}
        return found | ({"shape": run.system.reconstruct(variables, image)} if decodes else {})

    found = in_chunks(
        lambda part: look(variables, part["image"]), batch_of(source, range(len(source))),
        chunk=_CHUNK,
    )  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    names = run.config.get("targets", source.info.class_names)
    rows = [["case", *names]]
    for number, case in enumerate(source.info.case_names):
        chance = found["chance"][number]
        rows.append([case, *(f"{p:.4f}" for p in chance)])
        console.print(
            f"{case}  {names[int(chance.argmax())]} ({chance.max():.3f})", highlight=False
        )
        for c, phase in enumerate(source.info.channel_names if decodes else ()):
            shape = np.asarray(found["shape"][number, ..., c], np.float32)
            write_volume(output / f"{case}_{phase}.nii.gz", shape, source.affine_of(number))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(
        output / "probabilities.csv", lambda file: file.write(text.getvalue().encode())
    )
