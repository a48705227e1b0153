"""Every kind of model on the pretend device: results of the CPU, no mixed devices, few waits."""

import pytest
import torch
from detectron2.structures import Boxes
from pretend_device import DEVICE, PretendDevice
from rectangles import batch, empty_ground_truth, ground_truth, losses_of
from zoo_configs import FRAMEWORKS, framework_cfg

HEAD = "MODEL.ROI_MASKIOU_HEAD."
AGNOSTIC = {"MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True}
DETECTIONS = {f"{HEAD}SAMPLES": "detections", f"{HEAD}FALSE_POSITIVES": "zero"}
DEFORMABLE = {
    "MODEL.BACKBONE.NAME": "build_deform_resnet_fpn_backbone",
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, True, True],
}
VARIANTS = [
    *(pytest.param(name, {}, id=name) for name in FRAMEWORKS),
    pytest.param("fpn", DEFORMABLE, id="dconv"),
    pytest.param("fpn", AGNOSTIC, id="agnostic"),
    pytest.param("fpn", {f"{HEAD}NAME": "MaskIoULiteHead"}, id="lite"),
    pytest.param("fpn", {f"{HEAD}NAME": "MaskConfidenceHead"}, id="confidence"),
    *(
        pytest.param("fpn", {f"{HEAD}INPUT": name}, id=name)
        for name in ("multiply", "all_masks", "high_res")
    ),
    pytest.param(
        "fpn", {f"{HEAD}INPUT_SCALARS": True, f"{HEAD}CONFIDENCE_EXPONENT": 0.5}, id="scalars"
    ),
    pytest.param("fpn", {f"{HEAD}LOSS_TYPE": "area_weighted_l2"}, id="area_weighted_l2"),
    pytest.param(
        "fpn", {f"{HEAD}LOSS_TYPE": "l2_rank", f"{HEAD}MASKIOU_THRESH": 0.1}, id="l2_rank"
    ),
    pytest.param("cascade", {f"{HEAD}TARGET": "all_classes"}, id="all_classes"),
    pytest.param("c4", {f"{HEAD}TARGET": "positive_classes", **AGNOSTIC}, id="positive_classes"),
    pytest.param("fpn", {"MODEL.ROI_HEADS.NMS_TYPE": "soft_linear"}, id="soft_linear"),
    pytest.param("cascade", {"MODEL.ROI_HEADS.NMS_TYPE": "soft_gaussian"}, id="soft_gaussian"),
    pytest.param("fpn", DETECTIONS, id="detections"),
    pytest.param("cascade", DETECTIONS, id="cascade-detections"),
]


def small(framework, overrides):
    cfg = framework_cfg(framework)
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 8
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 200
    cfg.merge_from_list([item for pair in overrides.items() for item in pair])
    return cfg


def images():
    return batch(ground_truth(2, "polygon"), ground_truth(2), empty_ground_truth())


def train_and_detect(model):
    """Losses and gradients of a training step, then detections; all on the CPU."""
    losses = losses_of(model, images())
    sum(losses.values()).backward()
    found = {name: loss.detach().cpu() for name, loss in losses.items()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[f"{name}.grad"] = parameter.grad.cpu()
    with torch.no_grad():
        detections = model.eval().inference(images(), do_postprocess=False)
    for index, of_image in enumerate(detections):
        for name, value in of_image.get_fields().items():
            found[f"{name} {index}"] = (value.tensor if isinstance(value, Boxes) else value).cpu()
    return found


@pytest.mark.parametrize(("framework", "overrides"), VARIANTS)
def test_equals_the_cpu(framework, overrides, build, storage, monkeypatch):
    # Detections of random weights do not overlap with instances as much.
    monkeypatch.setattr("msrcnn.modeling.detection_samples.MIN_BOX_IOU", 0.0)
    cfg = small(framework, overrides)
    expected = train_and_detect(build(cfg))
    with PretendDevice() as device:
        found = train_and_detect(build(cfg).to(DEVICE))
    assert {"loss_maskiou", "mask_scores 0"} <= found.keys()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name

    own = [read for read in device.reads if "/msrcnn/modeling/" in read]
    training = [read for read in own if "soft_nms" not in read]
    # Also the pairs of proposals and instances of two images, or the matches of all detections.
    extra = 2 * (f"{HEAD}TARGET" in overrides) + (f"{HEAD}SAMPLES" in overrides)
    assert len(training) == 1 + extra, own
    assert len(own) - len(training) in (0, 2 * len(images()))  # Soft-NMS, twice per image


def waits(cfg, build):
    """What the host waits for in a training step, and in an inference with postprocessing."""
    with PretendDevice() as device:
        model = build(cfg).to(DEVICE)
        losses_of(model, images())
        training = list(device.reads)
        device.reads.clear()
        with torch.no_grad():
            model.eval()(images())
    return training, device.reads


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_mask_scoring_adds_one_wait(framework, build, storage):
    scoring, plain = small(framework, {}), small(framework, {"MODEL.MASKIOU_ON": False})
    (training, inference), (in_training, in_inference) = waits(scoring, build), waits(plain, build)
    assert len(training) - len(in_training) == 1, set(training) - set(in_training)
    # Detectron2's postprocessing selects from two more fields of each image.
    assert len(inference) - len(in_inference) <= 2 * len(images())


def test_mixed_devices_and_waits_are_found():
    with PretendDevice() as device:
        x = torch.zeros(3, device=DEVICE)
        with pytest.raises(RuntimeError, match="add.* two devices"):
            x + torch.ones(3)
        assert (x + 1).device == DEVICE
        assert device.reads == []
        x.tolist(), x.sum().item(), bool(x.any()), x[x > 0], x.nonzero(), x.unique(), x.cpu()
    assert len(device.reads) == 7
