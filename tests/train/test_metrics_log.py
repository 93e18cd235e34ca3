"""What stays in the log when a finished run is scored again or a killed one goes on."""

import pytest

from jaxmedgen.train import metrics_log
from jaxmedgen.train.metrics_log import MetricsLog, read_metrics


def test_a_second_score_of_a_step_replaces_the_first(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(10, "train", {"loss": 1.0})
    log.write(20, "train", {"loss": 0.5})
    log.close()
    for dice in (0.6, 0.7):
        log = MetricsLog(tmp_path, rescored=20)
        log.write(20, "test", {"dice": dice})
        log.close()
    log = MetricsLog(tmp_path, rescored=10)  # another checkpoint of the run
    log.write(10, "test", {"dice": 0.1})
    log.close()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["step"], line.get("dice")) for line in lines] == [
        (10, None),
        (20, None),
        (20, 0.7),
        (10, 0.1),
    ]


@pytest.mark.parametrize(("step", "redo", "expected"), [(None, 0, None), (20, 0, 21), (20, 1, 20)])
def test_tensorboard_keeps_the_step_of_the_checkpoint(tmp_path, monkeypatch, step, redo, expected):
    """It drops `purge_step` itself, too: right only where that one is evaluated again."""
    given = []

    class Writer:
        def __init__(self, folder, purge_step):
            given.append(purge_step)

    monkeypatch.setattr(metrics_log.tensorboardX, "SummaryWriter", Writer)
    MetricsLog(tmp_path, step, bool(redo))
    assert given == [expected]
