"""What stays in the log when a finished run is scored again."""

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
