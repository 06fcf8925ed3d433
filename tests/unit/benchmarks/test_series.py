"""One simulation of a series, and what its line keeps."""

import robustness
from bias import SLOW_METRICS
from evaluations.series import Arm, Piece, run_piece


def test_a_line_keeps_the_metrics_that_its_series_names():
    arm = Arm("per class", {"spec.task.config.digits.perClass": True, "spec.local.epochs": 1}, "even", clients=20)
    row = run_piece(Piece(arm, 1000, 2, robustness.SERIES.manifest, None, SLOW_METRICS))
    assert list(row["metrics"]) == ["accuracy/8", "accuracy/9"]
    for points in row["metrics"].values():
        assert [point[:2] for point in points] == [point[:2] for point in row["measured"]]
        assert points != row["measured"]
