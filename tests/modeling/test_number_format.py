import copy
import pickle

import pytest
import torch
from mask_contrast import relative_error, with_contrast
from torch import nn
from zoo_configs import FRAMEWORKS, framework_cfg

from msrcnn.modeling.fast_inference import fast_inference, speed_up
from msrcnn.modeling.number_format import compute_in

FIELDS = ("scores", "mask_scores", "pred_maskiou", "pred_masks")
PREDICTORS = ("cls_score", "bbox_pred")
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@pytest.fixture
def image():
    torch.manual_seed(0)
    return [{"image": torch.rand(3, 96, 128) * 255, "height": 96, "width": 128}]


def formats(model):
    """Returns what convolutions and fully connected layers put out, from now on, by name."""
    found = {}

    def note(name):
        return lambda layer, inputs, output: found.update({name: output.dtype})

    for name, layer in model.named_modules():
        if isinstance(layer, LAYERS):
            layer.register_forward_hook(note(name))
    return found


def detect(model, image):
    with torch.no_grad():
        return model.inference(image, do_postprocess=False)[0]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_layers_compute_in_it_and_outputs_are_float32(build, framework, image):
    cfg = framework_cfg(framework)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build(cfg).eval()
    expected, found = detect(model, image), formats(model)
    undo = compute_in(model, torch.bfloat16)
    detections = detect(model, image)
    assert len(expected) > 5
    for name, dtype in found.items():
        is_predictor = name.rpartition(".")[2] in PREDICTORS
        assert dtype == (torch.float32 if is_predictor else torch.bfloat16), name
    for field in (*FIELDS, "pred_boxes"):
        values = detections.get(field)
        assert getattr(values, "tensor", values).dtype == torch.float32
    undo()
    again = detect(model, image)
    for field in FIELDS:
        assert torch.equal(again.get(field), expected.get(field))
    assert set(found.values()) == {torch.float32}


def test_outputs_change_by_rounding_only(tiny_cfg, build, image):
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build(tiny_cfg).eval()
    with_contrast(model)
    given = [detect(model, image)]
    expected = copy.deepcopy(given[0])
    for field in ("pred_masks", "pred_maskiou", "mask_scores"):
        given[0].remove(field)
    with torch.no_grad(), fast_inference(model, torch.bfloat16):
        (found,) = model.inference(image, given, do_postprocess=False)
    assert 0 < relative_error(found.pred_masks, expected.pred_masks) < 0.1
    for field in ("pred_maskiou", "mask_scores"):
        torch.testing.assert_close(found.get(field), expected.get(field), rtol=0.1, atol=0.003)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_computes_in_it_with_its_own_weights(tiny_cfg, build, image, again):
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build(tiny_cfg).eval()
    speed_up(model, torch.bfloat16)
    copied = again(model)
    expected = detect(copied, image)
    for parameter in model.parameters():
        parameter.data.zero_()
    found = formats(copied)
    assert torch.equal(detect(copied, image).scores, expected.scores)
    assert torch.bfloat16 in found.values()


def test_parts_of_a_backbone_are_not_parts_of_their_own(tiny_cfg, build):
    model = build(tiny_cfg).eval()
    compute_in(model, torch.bfloat16)
    changed = {name for name, module in model.named_modules() if "forward" in vars(module)}
    heads = {"roi_heads.box_head", "roi_heads.mask_head.maskiou_head"}
    assert changed == {"backbone", "proposal_generator.rpn_head", *heads}
    assert "layers" in vars(model.roi_heads.mask_head)


def test_a_part_with_a_method_of_its_own_keeps_it(tiny_cfg, build):
    model = build(tiny_cfg).eval()
    own = model.backbone.forward = lambda image: {}
    undo = compute_in(model, torch.bfloat16)
    assert model.backbone.forward is own
    assert "forward" in vars(model.proposal_generator.rpn_head)
    undo()
    assert model.backbone.forward is own
    assert "forward" not in vars(model.proposal_generator.rpn_head)


def test_an_error_ends_the_format():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Failing()

    class Failing(nn.Module):
        def forward(self):
            assert torch.is_autocast_enabled("cpu")
            raise KeyboardInterrupt

    model = Model()
    with pytest.raises(KeyboardInterrupt), fast_inference(model, torch.bfloat16):
        model.backbone()
    assert not torch.is_autocast_enabled("cpu")
    assert not vars(model.backbone).get("forward")
