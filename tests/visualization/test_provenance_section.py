import dataclasses

from report_page import page_of
from square_scene import detections, ground_truth

from msrcnn.evaluation import EvaluationSettings, evaluate_detections
from msrcnn.visualization.provenance_section import provenance_section


def test_settings_and_versions():
    evaluation = evaluate_detections(ground_truth(), detections(), EvaluationSettings(bootstrap=0))
    assert provenance_section(evaluation) == []
    provenance = {
        "software": {"msrcnn": "9.9", "commit": None, "dirty": False},
        "command": ["msrcnn", "eval", "--output-dir", "a folder"],
        "dataset": {"name": "squares", "annotations": {"path": "a.json", "sha256": "abc"}},
        "weights": {"path": "model.pth", "sha256": "0123"},
        "predictions": [{"path": "p.npz", "sha256": "def"}],
        "config": {"MODEL.MASKIOU_ON": True, "SOLVER.STEPS": [1, 2], "DATASETS.TRAIN": []},
        "max_dets": 100,
    }
    summary = {**evaluation.summary, "provenance": provenance}
    page = page_of(provenance_section(dataclasses.replace(evaluation, summary=summary)))
    assert "msrcnn eval --output-dir 'a folder'" in page.sections["Settings and versions"]
    header = ["setting", "value"]
    assert page.tables["Versions"] == [header, ["msrcnn", "9.9"], ["dirty", "no"]]
    assert page.tables["Config"] == [
        header,
        *(["MODEL.MASKIOU_ON", "yes"], ["SOLVER.STEPS", "1, 2"], ["DATASETS.TRAIN", "none"]),
    ]
    assert page.tables["Inputs and evaluation"] == [
        header,
        *(["dataset name", "squares"], ["dataset annotations path", "a.json"]),
        *(["dataset annotations sha256", "abc"], ["weights path", "model.pth"]),
        *(["weights sha256", "0123"], ["predictions 1 path", "p.npz"]),
        *(["predictions 1 sha256", "def"], ["max dets", "100"]),
    ]
    assert provenance["software"]["msrcnn"] == "9.9"  # not changed
