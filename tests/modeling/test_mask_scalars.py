import math

import pytest
import torch

from msrcnn.modeling import MaskIoUHead
from msrcnn.modeling.mask_confidence import mask_confidence
from msrcnn.modeling.mask_scalars import SCALARS, mask_scalars
from msrcnn.modeling.mask_score import mask_score


def test_scalars_by_hand():
    """Half of the mask is sure foreground, a quarter unsure background, a quarter sure."""
    logits = torch.tensor([[[2.0, 2.0], [-0.5, -3.0]]])
    boxes = torch.tensor([[10.0, 20.0, 42.0, 28.0]])
    found = dict(zip(SCALARS, mask_scalars(logits, boxes)[0].tolist()))
    p = torch.tensor([2.0, 2.0, -0.5, -3.0]).sigmoid()
    assert found["log_width"] == pytest.approx(math.log(32))
    assert found["log_height"] == pytest.approx(math.log(8))
    assert found["confidence"] == pytest.approx(p[0].item())
    assert found["uncertainty"] == pytest.approx((4 * p * (1 - p)).mean().item())
    assert found["foreground_share"] == 0.5


def test_scalars_of_nothing_and_of_an_empty_box():
    assert mask_scalars(torch.zeros(0, 28, 28), torch.zeros(0, 4)).shape == (0, len(SCALARS))
    empty = mask_scalars(torch.full((1, 4, 4), -9.0), torch.tensor([[5.0, 5.0, 5.0, 5.0]]))
    assert torch.isfinite(empty).all()
    assert empty[0, :2].tolist() == [0.0, 0.0]  # as of a box of one pixel


def test_scalars_have_no_gradient():
    logits, boxes = torch.randn(2, 4, 4), torch.rand(2, 4)
    assert not mask_scalars(logits.requires_grad_(), boxes.requires_grad_()).requires_grad


@pytest.mark.parametrize("name", ["MaskIoUHead", "MaskIoULiteHead", "MaskConfidenceHead"])
def test_every_head_takes_scalars(name, tiny_cfg, build):
    """In training and at test time; the two that learn depend on them."""
    head = tiny_cfg.MODEL.ROI_MASKIOU_HEAD
    head.NAME, head.INPUT_SCALARS = name, True
    mask_head = build(tiny_cfg).roi_heads.mask_head
    features = torch.randn(3, 64, 14, 14)
    logits, classes = torch.randn(3, 6, 28, 28), torch.tensor([0, 3, 5])
    found = [
        mask_head._maskiou(features, logits, classes, boxes)
        for boxes in (torch.tensor([[0.0, 0, 8, 8]] * 3), torch.tensor([[0.0, 0, 90, 90]] * 3))
    ]
    assert found[0].shape == (3, 6)
    assert torch.equal(*found) == (name == "MaskConfidenceHead")


def test_norm_is_part_of_the_checkpoint():
    from detectron2.layers import ShapeSpec

    shapes = ShapeSpec(channels=4, height=4, width=4), ShapeSpec(channels=2, height=8, width=8)
    sizes = {"num_classes": 2, "conv_dims": [4], "fc_dims": [8]}
    columns = slice(0, 5)
    with_scalars = MaskIoUHead(*shapes, scalars=columns, **sizes).state_dict()
    plain = MaskIoUHead(*shapes, **sizes).state_dict()
    assert with_scalars.keys() - plain.keys() == {"scalar_norm.mean", "scalar_norm.std"}
    assert with_scalars["maskiou_fc1.weight"].shape[1] == plain["maskiou_fc1.weight"].shape[1] + 5


def test_mask_score_of_the_paper_is_the_product():
    scores, maskiou = torch.rand(5), torch.rand(5)
    assert torch.equal(mask_score(scores, maskiou, None), scores * maskiou)


def test_mask_score_with_exponents():
    found = mask_score(
        *(torch.tensor([0.9]), torch.tensor([0.5]), torch.tensor([0.8])),
        score_exponent=2.0,
        confidence_exponent=3.0,
    )
    assert found.item() == pytest.approx(0.9 * 0.5**2 * 0.8**3)


def test_exponents_of_the_config_rank_the_masks(tiny_cfg, build):
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.SCORE_EXPONENT = 0.5
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.CONFIDENCE_EXPONENT = 2.0
    model = build(tiny_cfg).eval()
    image = {"image": torch.randint(0, 255, (3, 96, 128)).float()}
    with torch.no_grad():
        (found,) = model.inference([image], do_postprocess=False)
    expected = mask_score(
        *(found.scores, found.pred_maskiou, mask_confidence(found.pred_masks)),
        score_exponent=0.5,
        confidence_exponent=2.0,
    )
    assert len(found) > 3
    assert torch.equal(found.mask_scores, expected)
