import pytest
import torch
from detectron2.structures import Boxes, Instances

from msrcnn.modeling.detection_context import CONTEXT, detection_context

SIZE = (200, 300)


def image(boxes, classes, scores) -> Instances:
    return Instances(
        SIZE,
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        pred_classes=torch.tensor(classes, dtype=torch.long),
        scores=torch.tensor(scores, dtype=torch.float32),
    )


def test_context_by_hand():
    detections = image(
        [[0, 0, 10, 10], [0, 0, 10, 20], [5, 0, 15, 10], [100, 100, 110, 110], [2, 2, 4, 4]],
        [0, 1, 0, 0, 1],
        [0.9, 0.8, 0.7, 0.6, 0.9],
    )
    found = detection_context(detections)
    expected = torch.tensor(
        [
            [0, 0, 0, 0],  # none has a higher score; the last has the same
            [4 / 200, 100 / 200, 4 / 200, 100 / 200],
            [50 / 150, 50 / 150, 50 / 100, 50 / 100],
            [0, 0, 0, 0],
            [0, 0, 0, 0],
        ]
    )
    assert CONTEXT == ("overlap_of_class", "overlap", "covered_by_class", "covered")
    torch.testing.assert_close(found, expected)


def test_largest_overlap_and_largest_cover_may_be_of_different_boxes():
    detections = image([[0, 0, 50, 50], [0, 0, 9, 10], [0, 0, 10, 10]], [0, 0, 0], [0.9, 0.8, 0.7])
    assert detection_context(detections)[2].tolist() == pytest.approx([0.9, 0.9, 1.0, 1.0])


@pytest.mark.parametrize("seed", range(5))
def test_context_does_not_depend_on_order_scale_or_mirroring(seed):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(20, 2, generator=generator) * 100
    boxes = torch.cat([corners, corners + 1 + torch.rand(20, 2, generator=generator) * 60], dim=1)
    classes = torch.randint(0, 3, (20,), generator=generator)
    scores = torch.rand(20, generator=generator)
    found = detection_context(image(boxes.tolist(), classes.tolist(), scores.tolist()))
    assert (found > 0).any(dim=0).all()
    order = torch.randperm(20, generator=generator)
    mirrored = boxes[order] * 2.5
    mirrored[:, [0, 2]] = 700 - mirrored[:, [2, 0]]
    changed = image(mirrored.tolist(), classes[order].tolist(), scores[order].tolist())
    torch.testing.assert_close(detection_context(changed), found[order], rtol=1e-4, atol=1e-4)


def test_no_detection_and_empty_boxes():
    assert detection_context(image([], [], [])).shape == (0, 4)
    found = detection_context(image([[5, 5, 5, 5], [5, 5, 5, 5]], [0, 0], [0.9, 0.8]))
    assert torch.equal(found, torch.zeros(2, 4))


def test_detections_without_scores_are_refused():
    detections = image([[0, 0, 9, 9]], [0], [0.5])
    detections.remove("scores")
    with pytest.raises(ValueError, match="INPUT_CONTEXT compares detections by box score"):
        detection_context(detections)


def test_model_scores_a_duplicate_by_its_context(tiny_cfg, build):
    """The same box and mask get another MaskIoU beside a better detection, image by image."""
    tiny_cfg.SOLVER.FIT_SCORES = True
    head = tiny_cfg.MODEL.ROI_MASKIOU_HEAD
    head.SAMPLES, head.INPUT_CONTEXT = "detections", True
    mask_head = build(tiny_cfg).roi_heads.mask_head.eval()
    torch.nn.init.ones_(mask_head.maskiou_head.maskiou.bias)  # away from the clamp at 0
    alone = image([[0, 0, 64, 64]], [2], [0.5])
    pair = image([[0, 0, 60, 64], [0, 0, 64, 64]], [2, 2], [0.9, 0.5])
    moved = image([[9, 9, 73, 73]], [2], [0.9])
    feature = 0.1 * torch.randn(1, 64, 14, 14)
    with torch.no_grad():
        mask_head.maskiou_head.maskiou.weight /= 100
        mask_head(feature.expand(4, -1, -1, -1), [alone, pair, moved])
    found = torch.cat([each.pred_maskiou for each in (alone, moved, pair)])
    torch.testing.assert_close(found[:3], found[:1].expand(3))
    assert 0 < found[3] != found[0] < 1
