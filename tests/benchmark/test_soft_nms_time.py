import argparse
from types import SimpleNamespace

import pytest
import torch

from msrcnn.benchmark import soft_nms_time, timing
from msrcnn.modeling.soft_nms import SoftNMS, soft_nms_inference


@pytest.mark.parametrize("background", [8.0, 0.0])
def test_plain_loop_finds_the_same(background):
    boxes, scores = soft_nms_time.predictions(60, background, torch.device("cpu"))
    boxes += 200  # inside the image, to which the inference clips
    decay = SoftNMS("soft_linear", iou_thresh=0.5)
    found_boxes, found_scores = soft_nms_time.plain_loop(boxes, scores, decay, 0.01)
    (ours,), _ = soft_nms_inference(
        [boxes], [scores], [(9999, 9999)], 0.01, decay, soft_nms_time.KEPT
    )
    assert len(ours) == len(found_scores) > 20
    assert torch.allclose(ours.scores, found_scores)
    assert torch.equal(ours.pred_boxes.tensor, found_boxes)


def test_measures_every_way_of_every_load(monkeypatch):
    monkeypatch.setattr(timing, "WARM_UP", 0)
    result = soft_nms_time.measure(argparse.Namespace(boxes=40, repeats=2))
    few, more, all_of_them = result["loads"].values()
    assert 0 < few["candidates"] < more["candidates"] < all_of_them["candidates"] == 40 * 80
    assert few["operators"] > 100
    for load in result["loads"].values():
        assert {name: len(seconds) for name, seconds in load["seconds"].items()} == {
            "ours": 2,
            "loop": 2,
            "nms": 2,
        }
    assert f"{few['to_nms']['median']:.3g} (" in soft_nms_time.table(result)


def test_ways_take_turns(monkeypatch):
    order, clock = [], [100.0]

    def run(name, seconds):
        order.append(name)
        clock[0] += seconds

    monkeypatch.setattr(timing, "now", lambda device: clock[0])
    ways = {"a": lambda repeat: run("a", 2.0 + repeat), "b": lambda _: run("b", 1.0)}
    seconds = timing.measure_in_turn(ways, torch.device("cpu"), 2)
    assert "".join(order) == "baabbaab"
    assert seconds == {"a": [2.0, 3.0], "b": [1.0, 1.0]}


def test_clock_of_a_device(monkeypatch):
    """That of a GPU stands still until it has computed everything."""
    called = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: called.append("synchronize"))
    clocks = {name: lambda name=name: called.append(name) or 1.0 for name in ("process", "wall")}
    clock = SimpleNamespace(process_time=clocks["process"], perf_counter=clocks["wall"])
    monkeypatch.setattr(timing, "time", clock)
    for device in ("cpu", "cuda"):
        assert timing.now(torch.device(device)) == 1.0
    assert called == ["process", "synchronize", "wall"]


def test_memory_of_a_gpu_is_that_of_each_way(monkeypatch):
    peak = {"bytes": 9 * 2**20}  # of what was before

    def use(mib):
        peak["bytes"] = max(peak["bytes"], mib * 2**20)

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: peak.update(bytes=0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peak["bytes"])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 3 * 2**20)
    ways = {"a": lambda _: use(5), "b": lambda _: use(2)}
    assert timing.peak_mib(ways, torch.device("cuda")) == {"a": 5.0, "b": 2.0}
    assert timing.peak_mib(ways, torch.device("cpu")) == {}
    assert timing.allocated_mib(torch.device("cuda")) == 3.0
    assert timing.allocated_mib(torch.device("cpu")) == 0.0


def test_ratio_is_the_median_of_the_pairs():
    found = timing.ratio({"a": [1.0, 6.0, 9.0], "b": [1.0, 2.0, 1.0]}, "a", "b")
    assert found == {"median": 3.0, "low": 2.0, "high": 6.0}
    assert timing.text(found) == "3 (2 to 6)"


def test_one_repeat_has_a_ratio():
    seconds = {"a": [3.0], "b": [2.0]}
    assert timing.ratio(seconds, "a", "b") == {"median": 1.5, "low": 1.5, "high": 1.5}
