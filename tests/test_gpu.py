"""Checks on a GPU; ``make test-gpu`` runs them and prints what a bug report needs.

``TEST_DEVICE=cpu`` runs those that a CPU can run, so that they do not rot.
"""

import copy
import json
import os
import shutil
import subprocess
import sys

import pycocotools.mask as mask_util
import pytest
import torch
from conftest import ROOT
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.layers import paste_masks_in_image
from detectron2.structures import Boxes
from mask_contrast import relative_error, with_contrast
from rectangles import batch, ground_truth, losses_of
from zoo_configs import FRAMEWORKS, framework_cfg

from msrcnn.engine import Trainer
from msrcnn.evaluation.mask_encoding import encode_masks
from msrcnn.modeling.fast_inference import fast_inference

DEVICE = os.getenv("TEST_DEVICE", "cuda")
pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason="no CUDA GPU"
)


@pytest.fixture(params=FRAMEWORKS)
def models(request, build):
    """The same model on the CPU and on the GPU."""
    model = build(framework_cfg(request.param))
    return model, copy.deepcopy(model).to(DEVICE)


def images():
    return batch(ground_truth(3, "polygon"), ground_truth(1))


def head_losses(model, dtype=None):
    """Losses of the heads on the instances as proposals, which random numbers do not affect.

    Also runs the backward pass.

    Args:
        model: the model, on any device.
        dtype: runs under autocast to it, with scaled gradients if it is half precision.
    """
    device = model.device.type
    model.proposal_generator, inputs = None, images()
    for image in inputs:
        image["proposals"] = copy.deepcopy(image["instances"])
        image["proposals"].proposal_boxes = image["proposals"].gt_boxes
        image["proposals"].objectness_logits = torch.zeros(len(image["instances"]))
        for name in ("gt_boxes", "gt_classes", "gt_masks"):
            image["proposals"].remove(name)
    with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
        losses = losses_of(model, inputs)
    scale = 2.0**10 if dtype == torch.float16 else 1.0
    (sum(losses.values()) * scale).backward()
    for name, parameter in model.roi_heads.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    return {name: loss.item() for name, loss in losses.items()}


@pytest.mark.parametrize(
    ("dtype", "rel"),
    [(None, 1e-3), (torch.float16, 0.05), (torch.bfloat16, 0.1)],
    ids=["fp32", "fp16", "bf16"],
)
def test_training_step(models, storage, dtype, rel):
    on_cpu, on_gpu = models
    expected = head_losses(on_cpu)
    assert {"loss_mask", "loss_maskiou"} <= expected.keys()
    assert head_losses(on_gpu, dtype) == pytest.approx(expected, rel=rel, abs=1e-3)


def boxes_of(detections):
    """Returns detections on the GPU, without what the mask head adds."""
    given = [copy.deepcopy(x).to(DEVICE) for x in detections]
    for instances in given:
        for name in ("pred_masks", "pred_maskiou", "mask_scores"):
            instances.remove(name)
    return given


def test_inference(models):
    """The CPU's boxes get the same MaskIoU, masks and mask scores on the GPU."""
    on_cpu, on_gpu = models
    with torch.no_grad():
        expected = on_cpu.eval().inference(images(), do_postprocess=False)
        given = boxes_of(expected)
        found = on_gpu.eval().inference(images(), given, do_postprocess=False)
        detected = on_gpu.inference(images())  # the whole model runs there, too
    for ours, theirs, alone in zip(found, expected, detected):
        assert len(theirs) > 0 < len(alone["instances"])
        for name in ("pred_masks", "pred_maskiou", "mask_scores"):
            close = torch.allclose(ours.get(name).cpu(), theirs.get(name), rtol=1e-3, atol=1e-3)
            assert close, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_inference_in_half_precision(models, dtype):
    """The CPU's boxes get about the same MaskIoU and masks, as float32."""
    if DEVICE == "cpu" and dtype == torch.float16:
        pytest.skip("float16 needs a GPU")
    on_cpu, on_gpu = models
    with_contrast(on_cpu)
    on_gpu.load_state_dict(on_cpu.state_dict())
    with torch.no_grad():
        expected = on_cpu.eval().inference(images(), do_postprocess=False)
        given = boxes_of(expected)
        with fast_inference(on_gpu.eval(), dtype):
            found = on_gpu.inference(images(), given, do_postprocess=False)
            detected = on_gpu.inference(images())
    for ours, theirs, alone in zip(found, expected, detected):
        assert len(theirs) > 0 < len(alone["instances"])
        assert ours.pred_masks.dtype == ours.mask_scores.dtype == torch.float32
        assert relative_error(ours.pred_masks, theirs.pred_masks) < 0.1
        for name in ("pred_maskiou", "mask_scores"):
            values = ours.get(name).cpu()
            assert torch.allclose(values, theirs.get(name), rtol=0.1, atol=0.01), name


def test_encoded_masks():
    """Binary masks have the RLE of the CPU, soft ones that of the mask pasted on the device."""
    torch.manual_seed(0)
    side = 28
    masks = torch.nn.functional.interpolate(torch.rand(20, 1, 7, 7), size=side)[:, 0]
    whole = torch.tensor([[0.0, 0, side, side]]).repeat(20, 1)
    on_cpu = encode_masks((masks > 0.5).float(), whole, (side, side))
    arguments = (masks > 0.5).float().to(DEVICE), whole.to(DEVICE), (side, side)
    assert encode_masks(*arguments) == on_cpu
    assert (mask_util.decode(on_cpu).transpose(2, 0, 1) == (masks > 0.5).numpy()).all()

    corner = torch.rand(20, 2) * 60
    boxes = torch.cat([corner, corner + 5 + torch.rand(20, 2) * 50], dim=1)
    arguments = masks.to(DEVICE), Boxes(boxes.to(DEVICE)), (90, 110)
    pasted = paste_masks_in_image(*arguments).cpu().numpy().astype("uint8")
    expected = mask_util.encode(pasted.transpose(1, 2, 0).copy(order="F"))
    assert encode_masks(arguments[0], boxes.to(DEVICE), arguments[2]) == expected


def test_resumed_run_equals_one_that_never_stopped(tiny_cfg, shapes_root, tmp_path):
    name = f"gpu_train of {shapes_root}"
    if name not in DatasetCatalog.list():
        annotations = shapes_root / "annotations" / "instances_train.json"
        register_coco_instances(name, {}, str(annotations), str(shapes_root / "train"))
    cfg = tiny_cfg
    cfg.MODEL.DEVICE, cfg.SEED = DEVICE, 5
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (name,), ()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD = 4, 2
    cfg.SOLVER.AMP.ENABLED = DEVICE == "cuda"
    final = []
    for part in ("whole", "resumed"):
        folder = tmp_path / part
        folder.mkdir()
        cfg.OUTPUT_DIR = str(folder)
        if part == "resumed":
            shutil.copy(tmp_path / "whole" / "model_0000001.pth", folder)
            (folder / "last_checkpoint").write_text("model_0000001.pth")
        torch.manual_seed(0)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=True)
        assert trainer.start_iter == (2 if part == "resumed" else 0)
        trainer.train()
        final.append(trainer.model.state_dict())
    whole, resumed = final
    for key, expected in whole.items():
        # Gradients of RoIAlign are summed in any order on a GPU.
        assert torch.allclose(resumed[key].float(), expected.float(), rtol=1e-2, atol=1e-3), key


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_two_processes(shapes_root, tmp_path):
    """Training and evaluation over NCCL, as from the command line."""
    data = [
        f"{shapes_root}/annotations/instances_{s}.json:{shapes_root}/{s}" for s in ("train", "val")
    ]
    command = ["tools/train_net.py", "--num-gpus", "2", "--train-data", data[0]]
    command += ["--val-data", data[1], "--config-file", "configs/quick/smoke_ms_rcnn_R_18_FPN.yaml"]
    subprocess.run(
        [sys.executable, *command, "OUTPUT_DIR", str(tmp_path)], cwd=ROOT, check=True, timeout=300
    )
    assert json.loads((tmp_path / "evaluation.json").read_text())["images"] == 6
