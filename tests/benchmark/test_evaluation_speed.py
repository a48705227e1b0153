import argparse
import json

import pytest
import torch
from pycocotools.coco import COCO

from msrcnn.benchmark.evaluation_speed import _compare, _content, add_arguments, measure, table
from msrcnn.benchmark.stand_in import REPEAT_ID, StandIn, repeat_dataset
from msrcnn.errors import UserError


@pytest.fixture
def annotations(coco_root):
    return coco_root / "annotations" / "instances_val2017.json"


def test_repeated_dataset(annotations):
    content = json.loads(annotations.read_text())
    size = len(content["images"])
    repeated = repeat_dataset(content, 2 * size + 3)
    assert len(repeated["images"]) == 2 * size + 3
    for key in ("images", "annotations"):
        ids = [record["id"] for record in repeated[key]]
        assert len(set(ids)) == len(ids)
    twice = [a for a in repeated["annotations"] if a["image_id"] < 2 * REPEAT_ID]
    assert len(twice) == 2 * len(content["annotations"])
    assert {a["image_id"] for a in twice} <= {image["id"] for image in repeated["images"]}


def test_stand_in_is_close_to_the_ground_truth_and_equal_for_repetitions(annotations):
    image_id = next(iter(COCO(str(annotations)).imgs))
    stand_in = StandIn(annotations, detections=30)
    first, again = stand_in(image_id), stand_in(image_id + 3 * REPEAT_ID)
    assert first is not again
    assert first.pred_masks.shape == (30, 1, 28, 28)
    assert torch.equal(first.pred_masks, again.pred_masks)
    assert torch.equal(first.mask_scores, first.scores * first.pred_maskiou)
    assert 0.05 < (first.pred_masks > 0.5).float().mean() < 0.95


@pytest.mark.slow
def test_both_variants_are_measured(annotations, tmp_path):
    content = repeat_dataset(json.loads(annotations.read_text()), 6)
    found = _compare(tmp_path, annotations, content, detections=5, repeats=1)
    assert list(found["stock"]["seconds"]) == ["paste", "encode", "metrics"]
    assert {"encode", "results", "metrics", "bootstrap"} <= found["ours"]["seconds"].keys()
    for variant in ("stock", "ours"):
        assert all(seconds > 0 for seconds in found[variant]["seconds"].values())
        assert found[variant]["peak_mib"] > 100
    stock, ours = (sum(found[name]["seconds"].values()) for name in ("stock", "ours"))
    assert found["speedup"]["total"] == pytest.approx(stock / ours)
    found["speedup"]["total"] = 12.34  # whatever was measured
    shown = table({"sizes": [{"images": 6, **found}], "large_image": found})
    assert shown.count("12.3") == 2
    # Both wrote results for the same detections.
    evaluation = json.loads((tmp_path / "ours" / "evaluation.json").read_text())
    assert evaluation["images"] == 6
    written = json.loads((tmp_path / "stock" / "coco_instances_results.json").read_text())
    ours = json.loads((tmp_path / "ours/inference/coco_results_segm.json").read_text())
    assert sorted(r["segmentation"]["counts"] for r in written) == sorted(
        r["segmentation"]["counts"] for r in ours
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--annotations", "nowhere.json"], "no such file"),
        (["--images", "5", "6", "--repeats", "1", "2", "3"], "give one number, or 2"),
    ],
)
def test_invalid_arguments(annotations, arguments, message):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    if "--annotations" not in arguments:
        arguments = ["--annotations", str(annotations), *arguments]
    with pytest.raises(UserError, match=message):
        measure(parser.parse_args(arguments))


def test_keys_that_may_be_missing(annotations, tmp_path):
    content = json.loads(annotations.read_text())
    for each in content["annotations"]:
        del each["area"]
        if not each["iscrowd"]:
            del each["iscrowd"]
    path = tmp_path / "own.json"
    path.write_text(json.dumps(content))
    found = _content(path)["annotations"]
    assert all(each["area"] > 0 and each["iscrowd"] in (0, 1) for each in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"images": [], "categories": [], "annotations": []}', "'images' is empty"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=rf"a\.json.* {message}"):
        _content(tmp_path / "a.json")


def test_rle_masks_are_rejected_before_measuring(nuclei_root):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args(["--annotations", str(nuclei_root / "val.json")])
    with pytest.raises(UserError, match="must be polygons"):
        measure(arguments)
