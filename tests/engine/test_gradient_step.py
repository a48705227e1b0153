"""Steps in parts and in mixed precision (``SOLVER.ACCUMULATE_STEPS``, ``SOLVER.AMP.DTYPE``)."""

import contextlib
import shutil

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage
from rectangles import batch, ground_truth
from training_process import register, run_cfg

from msrcnn.engine import Trainer, check_config, prepare_config
from msrcnn.engine.device import inference_dtype, on_available_device
from msrcnn.engine.gradient_step import GradientStep, build_gradient_step, micro_batches
from msrcnn.errors import UserError

PARTS = {"SOLVER.ACCUMULATE_STEPS": 2}
BFLOAT16 = {"SOLVER.AMP.ENABLED": True, "SOLVER.AMP.DTYPE": "bfloat16"}


@pytest.fixture
def cfg(tiny_cfg):
    """All anchors and proposals are samples, so that losses have no random numbers in them.

    Each image has the same number of proposals, of which only the true boxes are foreground.
    """
    tiny_cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 100_000
    tiny_cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 10
    tiny_cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 100
    tiny_cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION = 1.0
    tiny_cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS = [0.99]
    tiny_cfg.SOLVER.OPTIMIZER = "sgd"
    return tiny_cfg


def different_images(first=2, second=2):
    images = batch(ground_truth(first)) + batch(ground_truth(second))
    images[1]["image"] = images[1]["image"].flip(-1) // 2
    return images


def gradients(cfg, build, images, **changes):
    """Returns the gradients and the logged losses of a step."""
    for key, value in changes.items():
        cfg.merge_from_list([key, value])
    model = build(cfg).train()
    # Masks of random weights are near the threshold everywhere, where rounding turns pixels over.
    torch.nn.init.constant_(model.roi_heads.mask_head.predictor.bias, 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    step = build_gradient_step(cfg, model, [images], optimizer)
    with EventStorage() as step.storage:
        torch.manual_seed(0)
        step.run_step()
        losses = {k: v for k, (v, _) in step.storage.latest().items() if "loss" in k}
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, losses


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    scale = max(each.abs().max() for each in expected.values())
    for name, each in expected.items():
        assert torch.allclose(found[name], each, rtol=1e-3, atol=1e-5 * scale), name


def test_parts_are_the_whole_batch(cfg, build):
    whole, losses = gradients(cfg, build, different_images())
    parts, losses_of_parts = gradients(cfg, build, different_images(), **PARTS)
    assert "loss_maskiou" in losses
    assert losses_of_parts == pytest.approx(losses, rel=1e-4)
    assert_close(parts, whole)


def test_parts_count_alike_like_processes(cfg, build):
    """Also if one has more instances than the other."""
    images = different_images(1, 3)
    (first, a), (second, b) = (gradients(cfg, build, [image]) for image in images)
    parts, losses = gradients(cfg, build, images, **PARTS)
    assert losses == pytest.approx({name: (a[name] + b[name]) / 2 for name in a}, rel=1e-4)
    assert_close(parts, {name: (first[name] + second[name]) / 2 for name in first})


def test_bfloat16_on_the_cpu(cfg, build):
    exact, losses = gradients(cfg, build, different_images())
    rounded, rounded_losses = gradients(cfg, build, different_images(), **BFLOAT16, **PARTS)
    assert rounded_losses == pytest.approx(losses, rel=0.1)
    assert rounded_losses != losses
    assert all(each.dtype == torch.float32 for each in rounded.values())
    name = "backbone.bottom_up.stem.conv1.weight"
    same = torch.nn.functional.cosine_similarity(exact[name].ravel(), rounded[name].ravel(), 0)
    assert same > 0.9


class Recorder(torch.nn.Module):
    """Stands for a model of several processes."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.synchronized, self.batches = True, []

    @contextlib.contextmanager
    def no_sync(self):
        self.synchronized = False
        yield
        self.synchronized = True

    def forward(self, images):
        self.batches.append((self.synchronized, images))
        return {"loss": self.weight * sum(images)}


def test_processes_exchange_gradients_after_the_last_part(tiny_cfg):
    tiny_cfg.SOLVER.ACCUMULATE_STEPS = 3
    model = Recorder()
    step = GradientStep(tiny_cfg, model, [[1, 2, 3]], torch.optim.SGD(model.parameters(), lr=1.0))
    with EventStorage() as step.storage:
        step.run_step()
    assert model.batches == [(False, [1]), (False, [2]), (True, [3])]
    assert model.weight.item() == -2  # one step, by the mean


def test_micro_batches():
    assert list(micro_batches([1, 2, 3, 4], 2)) == [[1, 2], [3, 4]]


def test_detectron2_takes_all_other_steps(tiny_cfg, build):
    step = build_gradient_step(tiny_cfg, build(tiny_cfg), [], None)
    assert type(step) is SimpleTrainer


def test_float16_needs_a_gpu(shapes_root, tmp_path, monkeypatch):
    cfg = run_cfg(shapes_root, tmp_path, **{"SOLVER.AMP.ENABLED": True, "MODEL.DEVICE": "cpu"})
    (tmp_path / "half.yaml").write_text(cfg.dump())
    register(shapes_root)
    with pytest.raises(UserError, match="AMP.DTYPE 'float16' needs a GPU.*set it to bfloat16"):
        prepare_config(tmp_path / "half.yaml", splits=("TRAIN", "TEST"))
    prepare_config(tmp_path / "half.yaml", ["SOLVER.AMP.DTYPE", "bfloat16"], splits=("TRAIN",))
    # Not to evaluate, nor to fit its mask scores.
    prepare_config(tmp_path / "half.yaml", splits=("TEST",))
    prepare_config(tmp_path / "half.yaml", splits=("TRAIN", "TEST"), keep_classes=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg.MODEL.DEVICE = "cuda"
    assert not on_available_device(cfg).SOLVER.AMP.ENABLED
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    assert on_available_device(cfg).SOLVER.AMP.ENABLED


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_model_does_not_compute_in_float16_without_a_gpu(tiny_cfg, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tiny_cfg.TEST.DTYPE, tiny_cfg.MODEL.DEVICE = "float16", device
    check_config(tiny_cfg)
    assert inference_dtype(tiny_cfg) == torch.float32
    tiny_cfg.TEST.DTYPE = "bfloat16"
    assert inference_dtype(tiny_cfg) == torch.bfloat16


def test_batch_must_be_divisible(shapes_root, tmp_path):
    register(shapes_root)
    cfg = run_cfg(shapes_root, tmp_path, **{"SOLVER.ACCUMULATE_STEPS": 3})
    with pytest.raises(UserError, match="processes, 1 x SOLVER.ACCUMULATE_STEPS 3"):
        Trainer(cfg)


@pytest.mark.slow
def test_resumed_run_is_the_same(shapes_root, tmp_path):
    register(shapes_root)
    weights = []
    for folder in (tmp_path / "once", tmp_path / "resumed"):
        changes = {**PARTS, **BFLOAT16, "SOLVER.MAX_ITER": 3, "DATASETS.TEST": ()}
        torch.manual_seed(0)
        trainer = Trainer(run_cfg(shapes_root, folder, **changes))
        assert type(trainer._trainer) is GradientStep
        assert trainer.cfg.SOLVER.AMP.ENABLED
        trainer.resume_or_load(resume=True)
        trainer.train()
        weights.append(torch.load(folder / "model_final.pth", weights_only=True)["model"])
        (tmp_path / "resumed").mkdir(exist_ok=True)
        if folder.name == "once":  # as if interrupted after its first checkpoint
            shutil.copy(folder / "model_0000001.pth", tmp_path / "resumed")
        (tmp_path / "resumed" / "last_checkpoint").write_text("model_0000001.pth")
    assert trainer.start_iter == 2
    assert all(torch.equal(each, weights[1][name]) for name, each in weights[0].items())
