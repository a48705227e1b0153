import json

import pytest
import torch

from msrcnn.engine.result_records import hardware, record_result
from msrcnn.engine.training_log import read_evaluations, read_training_log
from msrcnn.errors import UserError
from msrcnn.provenance import software


def test_record_has_the_evaluation_with_command_hardware_and_versions(tmp_path):
    evaluation = {"segm_mask_score": {"AP": 51.5}}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    record_result(tmp_path / "evaluation.json", "make demo", tmp_path / "docs" / "a.json")
    result = json.loads((tmp_path / "docs" / "a.json").read_text())
    assert result["command"] == "make demo"
    assert result["evaluation"] == evaluation
    assert result["hardware"]
    assert result["versions"] == software()
    assert "training" not in result


def test_record_names_files_without_their_folders(tmp_path):
    weights = {"path": "/home/me/output/model_final.pth", "sha256": "ab/cd"}
    dataset = {"name": "/home/me/val.json:/home/me/images", "annotations": {"path": "a/val.json"}}
    evaluation = {"provenance": {"dataset": dataset, "weights": [weights, None, 3]}}
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    record_result(tmp_path / "evaluation.json", "make demo", tmp_path / "a.json")
    found = json.loads((tmp_path / "a.json").read_text())["evaluation"]["provenance"]
    assert found["dataset"] == {"name": "val.json:images", "annotations": {"path": "a/val.json"}}
    assert found["weights"] == [{"path": "model_final.pth", "sha256": "ab/cd"}, None, 3]


def test_record_has_the_training_time(tmp_path):
    (tmp_path / "evaluation.json").write_text("{}")
    steps = [{"iteration": i, "total_loss": 1.0, "time": t} for i, t in ((19, 0.3), (39, 0.5))]
    lines = [*steps, {"iteration": 40, "bbox/AP": 12.0}]
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    record_result(tmp_path / "evaluation.json", "make demo", tmp_path / "a.json")
    training = json.loads((tmp_path / "a.json").read_text())["training"]
    assert training == {"steps": 40, "seconds_per_step": 0.4}


def test_training_log_of_a_killed_run(tmp_path):
    """A line is incomplete, and the next record follows on the same line."""
    log = tmp_path / "metrics.json"
    assert read_training_log(log) == []
    log.write_text('{"iteration": 1, "total_loss": 2.0}\n{"iteration": 3, "tot{"iteration": 3}\n')
    assert read_training_log(log) == [{"iteration": 1, "total_loss": 2.0}]
    (tmp_path / "evaluation.json").write_text("{}")
    record_result(tmp_path / "evaluation.json", "make demo", tmp_path / "result.json")
    training = json.loads((tmp_path / "result.json").read_text())["training"]
    assert training == {"steps": 2, "seconds_per_step": None}


@pytest.mark.parametrize("other", ["5", "null", '"total_loss"', '["total_loss", "bbox/AP"]'])
def test_lines_of_a_log_that_are_no_records_are_skipped(other, tmp_path):
    log = tmp_path / "metrics.json"
    log.write_text(f'{other}\n{{"iteration": 1, "total_loss": 2.0, "bbox/AP": 3.0}}\n')
    assert len(read_training_log(log)) == len(read_evaluations(log)) == 1


def test_end_of_a_training_log(tmp_path):
    log = tmp_path / "metrics.json"
    lines = [{"iteration": i, "total_loss": 2.0} for i in range(1000)]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert read_training_log(log) == lines
    assert read_training_log(log, last_bytes=100) == lines[-2:]  # the one before is cut off
    assert read_training_log(log, last_bytes=10**6) == lines


def test_evaluations_of_a_training_log(tmp_path):
    """A run that was resumed evaluates an iteration again; the last record counts."""
    log = tmp_path / "metrics.json"
    assert read_evaluations(log) == []
    lines = [
        {"iteration": 10, "bbox/AP": 1.0},
        {"iteration": 19, "total_loss": 2.0},
        {"iteration": 20, "bbox/AP": 2.0},
        {"iteration": 20, "bbox/AP": 3.0},
    ]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"bbox/AP": 4')
    assert [line["bbox/AP"] for line in read_evaluations(log)] == [1.0, 3.0]


@pytest.mark.parametrize("content", [None, "no JSON", "null", "3.5"])
def test_an_evaluation_that_cannot_be_read(tmp_path, content):
    evaluation = tmp_path / "evaluation.json"
    if content is not None:
        evaluation.write_text(content)
    message = f"'{evaluation}'(: No such file| is damaged).*: evaluate again"
    with pytest.raises(UserError, match=message):
        record_result(evaluation, "make demo", tmp_path / "a.json")


@pytest.mark.parametrize(
    ("count", "name", "expected"),
    [
        (1, "NVIDIA H100 80GB HBM3", "one NVIDIA H100"),
        (1, "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "one NVIDIA H100 MIG 1g.10gb"),
        (8, "NVIDIA A100-SXM4-80GB", "8 x NVIDIA A100-SXM4-80GB"),
    ],
)
def test_hardware_names_the_gpus(count, name, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    assert hardware() == expected
