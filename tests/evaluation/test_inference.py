import pytest
import torch
from detectron2.modeling import GeneralizedRCNN

from msrcnn.evaluation import Detections, with_encoded_masks
from msrcnn.modeling.mask_confidence import mask_confidence

SIZES = [(96, 128), (75, 60)]  # of the images before they are resized


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return [
        {
            "image": torch.randint(0, 255, (3, 96, 128), dtype=torch.uint8),
            "height": height,
            "width": width,
        }
        for height, width in SIZES
    ]


@pytest.fixture
def cfg(tiny_cfg):
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 30
    return tiny_cfg


@torch.no_grad()
def test_same_detections_as_detectron2s_inference(cfg, build, inputs):
    model = build(cfg).eval()
    stock, ours = model(inputs), with_encoded_masks(model)(inputs)
    for expected, found in zip(stock, ours):
        columns = [
            Detections.from_instances(output["instances"], 1, torch.arange(6).numpy())
            for output in (expected, found)
        ]
        assert len(columns[1]) > 5
        for name in ("category_id", "bbox", "score", "maskiou", "mask_score"):
            assert (getattr(columns[0], name) == getattr(columns[1], name)).all()
        assert columns[0].segmentation == columns[1].segmentation
        assert found["instances"].image_size == expected["instances"].image_size


@torch.no_grad()
def test_mask_confidence_uses_mask_probabilities(cfg, build, inputs):
    model = build(cfg).eval()
    (raw, _), (found, _) = (
        model.inference(inputs, do_postprocess=False),
        with_encoded_masks(model)(inputs),
    )
    found = found["instances"]
    assert len(found) > 5
    # Postprocessing removes boxes that are empty after clipping to the image.
    kept = torch.isin(raw.scores, found.scores)
    assert torch.equal(raw.scores[kept], found.scores)
    assert torch.equal(mask_confidence(raw.pred_masks[kept]), found.mask_confidence)


@torch.no_grad()
def test_box_detector_and_no_detections(cfg, build, inputs):
    cfg.MODEL.MASK_ON = cfg.MODEL.MASKIOU_ON = False
    output = with_encoded_masks(build(cfg).eval())(inputs)[0]["instances"]
    assert not output.has("pred_masks_rle")
    cfg.MODEL.MASK_ON, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = True, 1.0
    output = with_encoded_masks(build(cfg).eval())(inputs)[0]["instances"]
    assert output.pred_masks_rle == []


def test_training_mode_is_kept(cfg, build):
    model = build(cfg)
    for mode in (True, False):
        assert with_encoded_masks(model.train(mode)).training is mode


def test_other_models_are_returned_unchanged(cfg, build):
    class CustomRCNN(GeneralizedRCNN):
        def inference(self, *args, **kwargs):
            return "another format"

    model = build(cfg)
    model.__class__ = CustomRCNN
    assert with_encoded_masks(model) is model
