"""Runs verbs within the test's process: importing JAX anew for each would take seconds."""

import jax
import pytest

from jaxmedgen.cli.main import main

TINY = [
    "--config.data.kind=shapes",
    "--config.data.shape=(16, 16, 16)",
    "--config.data.train=4",
    "--config.data.validation=1",
    "--config.data.test=2",
    "--config.net.features=(4, 8)",
    "--config.steps=25",
    "--config.optimizer.warmup=2",
    "--config.parallel.data=1",
]
"""Overrides of configs/unet.py: a 3D problem that trains in seconds on one device."""


@pytest.fixture(autouse=True)
def compilation_cache():
    """Puts back the cache folder that a training run sets for the whole process."""
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="session")
def tiny():
    """Overrides of a tiny problem."""
    return tuple(TINY)


@pytest.fixture
def run(capfd, monkeypatch):
    """``run(*arguments) -> (exit status, standard output, standard error)``."""

    monkeypatch.setenv("COLUMNS", "150")  # of tables

    def call(*arguments):
        capfd.readouterr()
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as left:
            status = left.code
        captured = capfd.readouterr()
        return status or 0, captured.out, captured.err

    return call


@pytest.fixture
def fails(run):
    """``fails(*arguments) -> message``: exit status 2 and one line, starting with "error: "."""

    def call(*arguments):
        status, _, err = run(*arguments)
        assert status == 2, err
        lines = err.strip().splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    return call
