"""``MODEL.ROI_MASK_HEAD.RANK_BY``: mask scores in the field by which other programs rank."""

import numpy as np
import pytest
import torch
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from rectangles import SIZE, batch, ground_truth

from msrcnn.engine import check_config
from msrcnn.engine.config_values import check_values
from msrcnn.errors import UserError
from msrcnn.evaluation import Detections
from msrcnn.modeling.test_time_augmentation import MaskScoringRCNNWithTTA


@pytest.fixture(params=[False, True], ids=["", "augmented"])
def outputs(request, tiny_cfg, build):
    """Detections ranked by box score, and the same ranked by mask score."""
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 12
    tiny_cfg.TEST.AUG.MIN_SIZES, tiny_cfg.TEST.AUG.MAX_SIZE = (64, 96), 200
    (record,) = batch(ground_truth())
    image = {"image": record["image"].byte(), "height": SIZE[0], "width": SIZE[1]}
    found = []
    for rank_by in ("box_score", "mask_score"):
        tiny_cfg.MODEL.ROI_MASK_HEAD.RANK_BY = rank_by
        model = build(tiny_cfg).eval()
        run = MaskScoringRCNNWithTTA(tiny_cfg, model) if request.param else model
        with torch.no_grad():
            found.append(run([image])[0]["instances"])
    return found


def test_mask_scores_are_in_scores(outputs):
    by_box, by_mask = outputs
    assert len(by_box) > 5
    assert torch.equal(by_mask.scores, by_box.mask_scores)
    assert torch.equal(by_mask.mask_scores, by_box.mask_scores)
    assert torch.equal(by_mask.box_scores, by_box.scores)
    assert not by_box.has("box_scores")
    assert not torch.equal(by_mask.scores, by_box.scores)


def test_detections_that_are_scored_again(tiny_cfg, build):
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    tiny_cfg.MODEL.ROI_MASK_HEAD.RANK_BY = "mask_score"
    model, (record,) = build(tiny_cfg).eval(), batch(ground_truth())
    with torch.no_grad():
        (found,) = model.inference([record], do_postprocess=False)
        fields = {name: value.clone() for name, value in found.get_fields().items()}
        (again,) = model.inference([record], [found], do_postprocess=False)
    for name in ("scores", "box_scores", "mask_scores", "pred_maskiou"):
        torch.testing.assert_close(again.get(name), fields[name])


def test_programs_of_others_rank_by_it(outputs):
    by_box, by_mask = outputs
    records = instances_to_coco_json(by_mask, 1)
    assert [r["score"] for r in records] == by_box.mask_scores.tolist()


def test_our_evaluation_has_both_scores_in_any_case(outputs):
    by_box, by_mask = (Detections.from_instances(each, 1, np.arange(6)) for each in outputs)
    for column in ("score", "mask_score", "maskiou"):
        assert (getattr(by_box, column) == getattr(by_mask, column)).all()


def test_other_values_are_an_error(tiny_cfg):
    tiny_cfg.MODEL.ROI_MASK_HEAD.RANK_BY = "mask"
    with pytest.raises(UserError, match=r"RANK_BY is 'mask'; allowed: 'box_score', 'mask_score'"):
        check_values(tiny_cfg)


def test_a_model_without_mask_scores_cannot_rank_by_them(tiny_cfg):
    tiny_cfg.MODEL.ROI_MASK_HEAD.RANK_BY = "mask_score"
    check_config(tiny_cfg)
    tiny_cfg.MODEL.MASKIOU_ON = False
    with pytest.raises(UserError, match="RANK_BY 'mask_score' needs MODEL.MASKIOU_ON True"):
        check_config(tiny_cfg)
