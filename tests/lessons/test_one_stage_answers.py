"""Lesson 07's experiment: what each case changes, and a run in small."""

import pytest

from course_lib.detectors.presets import YOLO_TINY
from course_lib.lessons import experiments
from course_lib.lessons.experiments import one_stage_answers
from course_lib.lessons.experiments.one_stage_answers import CASES, changed_yolo


def test_a_case_changes_what_it_says_and_nothing_else():
    assert changed_yolo(YOLO_TINY, "as it is") == YOLO_TINY
    assert changed_yolo(YOLO_TINY, "nothing ignored").matching.ignore == 1
    assert changed_yolo(YOLO_TINY, "several slots an object").matching.extra == 0.4
    assert changed_yolo(YOLO_TINY, "GIoU for boxes").loss.box == "giou"
    squares = changed_yolo(YOLO_TINY, "square priors").priors
    for mine, theirs in zip(squares.shapes, YOLO_TINY.priors.shapes):
        for (w, h), (pw, ph) in zip(mine, theirs):
            assert w == h and w * h == pytest.approx(pw * ph)


@pytest.mark.slow
def test_it_runs_in_small(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "UNFINISHED", tmp_path)
    found = one_stage_answers.run(progress=False, iterations=2, train=16, val=4)
    assert [(row["family"], row["case"]) for row in found["rows"]] == list(CASES)
    parameters = {row["case"]: row["parameters"] for row in found["rows"] if row["family"] == "yolo"}
    assert parameters["nothing ignored"] == parameters["as it is"] != parameters["version 1, 6 × 6 cells"]
