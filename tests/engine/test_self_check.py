import re
import sys

from msrcnn import cli
from msrcnn.engine import self_check
from msrcnn.modeling import MaskScoringHead


def doctor(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["msrcnn", "doctor"])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def test_a_sound_installation(monkeypatch, capsys):
    monkeypatch.setenv("DETECTRON2_DATASETS", "/data/sets")
    code, out, _ = doctor(monkeypatch, capsys)
    assert code == 0
    for line in ("training step and inference on cpu +works", "DETECTRON2_DATASETS +/data/sets"):
        assert re.search(line, out), line
    for name in ("msrcnn", "torch", "detectron2", "hotcoco", "commit"):
        assert f"\n{name} " in out, name


def test_what_does_not_work_is_an_error(monkeypatch, capsys):
    def fail(self, *args):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(MaskScoringHead, "forward", fail)
    code, out, err = doctor(monkeypatch, capsys)
    assert code == 1
    assert "fails: RuntimeError: no kernel image" in out
    assert err == "error: mask scoring does not run on cpu: see above\n"


def test_losses_that_are_not_finite(monkeypatch):
    monkeypatch.setattr(self_check, "_run", lambda device: ({"loss_mask": float("nan")}, None))
    assert "not finite" in self_check.try_device("cpu")
