"""Cached samples are what the MaskIoU head is given at test time, in every framework."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances
from zoo_configs import framework_cfg

from msrcnn.errors import UserError
from msrcnn.evaluation import load_ground_truth
from msrcnn.evaluation.mask_quality import duplicates, instances_by_class, true_maskiou
from msrcnn.modeling.mask_score import box_scores
from msrcnn.scores.fit import predict_maskiou
from msrcnn.scores.sample_cache import PART_FILES, SampleCache, is_complete
from msrcnn.scores.sample_pass import collect_samples

NAME = "shapes for the pass"
LITE = {"NAME": "MaskIoULiteHead"}


@pytest.fixture(scope="module")
def images(shapes_root):
    """Two images of a registered dataset, as dataset dicts."""
    annotations = shapes_root / "annotations" / "instances_val.json"
    register_coco_instances(NAME, {}, str(annotations), str(shapes_root / "val"))
    return get_detection_dataset_dicts([NAME], filter_empty=True)[:2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("framework", "head", "changes"),
    [
        ("fpn", {"INPUT_SCALARS": True, "INPUT_CONTEXT": True}, {}),
        ("fpn", {"INPUT": "all_masks"}, {}),
        ("fpn", {"INPUT": "high_res"}, {}),
        ("fpn", LITE, {"ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True}),
        ("c4", {"INPUT_SCALARS": True}, {"ROI_HEADS.NMS_TYPE": "soft_linear"}),
        ("cascade", {**LITE, "INPUT_CONTEXT": True}, {}),
        ("fpn", {"INPUT_CONTEXT": True}, {"ROI_MASK_HEAD.RANK_BY": "mask_score"}),
        ("cascade", {}, {"ROI_HEADS.NMS_TYPE": "soft_gaussian"}),
    ],
)
def test_fitted_heads_see_what_they_score(framework, head, changes, build, images, tmp_path):
    cfg = framework_cfg(framework, **head)
    for key, value in changes.items():
        cfg.merge_from_list([f"MODEL.{key}", value])
    cfg.INPUT.MIN_SIZE_TEST, cfg.TEST.DETECTIONS_PER_IMAGE = 160, 8
    cfg.DATALOADER.NUM_WORKERS = 0
    model = build(cfg).eval()
    maskiou_head = model.roi_heads.mask_head.maskiou_head
    cache = SampleCache(tmp_path, {})
    ground_truth = load_ground_truth(NAME)
    collect_samples(cfg, model, ground_truth, images, cache, max_bytes=2**30)
    assert model.roi_heads.mask_head.maskiou_head is maskiou_head
    assert len(cache) == 16
    true = true_maskiou(ground_truth, cache.detections)
    expected = duplicates(instances_by_class(ground_truth), cache.detections)
    np.testing.assert_array_equal(cache.small["duplicate"], expected)

    outputs = []
    maskiou_head.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    mapper = DatasetMapper(cfg, False)
    for image in images:
        rows = np.flatnonzero(cache.detections.image_id == image["image_id"])
        classes = cache.small["classes"][rows]
        with torch.no_grad():
            expected = model([mapper(image)])[0]["instances"]
            at_test = outputs[-1].gather(1, expected.pred_classes[:, None])[:, 0]
            found = predict_maskiou(maskiou_head, cache.batch(rows, model.device))
        # Features are cached in half precision.
        torch.testing.assert_close(found, at_test, rtol=0.01, atol=0.01 * at_test.std().item())
        assert at_test.std() > 0
        np.testing.assert_array_equal(classes, expected.pred_classes.numpy())
        scores = box_scores(expected).numpy()
        np.testing.assert_allclose(cache.detections.score[rows], scores, atol=1e-6)
        scale = mapper(image)["image"][0].numel() / (image["height"] * image["width"])
        np.testing.assert_allclose(cache.small["area"][rows], true.area[rows] * scale, rtol=1e-5)


def test_parts_that_are_missing_are_noticed(tmp_path):
    """As on several machines with a folder of their own each."""
    cache = SampleCache(tmp_path, {})
    for name in PART_FILES:
        (tmp_path / f"00000-{name}").touch()
    with pytest.raises(UserError, match="2 of 3 parts of the samples are missing .* same folder"):
        cache.mark_complete(3)
    assert not is_complete(tmp_path)
    cache.mark_complete(1)
    assert is_complete(tmp_path)
