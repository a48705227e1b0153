import io
import json
import re
from types import SimpleNamespace

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils.events import EventStorage
from exploits import EXPLOITS
from torch import nn

from msrcnn.engine import Trainer, evaluate
from msrcnn.engine.progress import ProgressLine
from msrcnn.errors import UserError


@pytest.fixture
def cfg(tiny_cfg, shapes_root, tmp_path):
    """A few iterations on the synthetic shapes dataset."""
    names = {}
    for split in ("train", "val"):
        names[split] = f"{split}_{shapes_root.name}"
        if names[split] not in DatasetCatalog.list():
            annotations = shapes_root / "annotations" / f"instances_{split}.json"
            register_coco_instances(names[split], {}, str(annotations), str(shapes_root / split))
    tiny_cfg.DATASETS.TRAIN, tiny_cfg.DATASETS.TEST = (names["train"],), (names["val"],)
    tiny_cfg.OUTPUT_DIR = str(tmp_path)
    return tiny_cfg


def train(cfg, resume=False):
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def log_of(tmp_path):
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_losses_decrease_and_all_files_are_written(cfg, tmp_path):
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 40, 0.02
    trainer = train(cfg)
    # Without the box loss, which grows at first as more proposals become foreground.
    for name in ("loss_rpn_cls", "loss_cls", "loss_mask", "loss_maskiou"):
        losses = [value for value, _ in trainer.storage.history(name).values()]
        assert sum(losses[-10:]) < sum(losses[:10]), name

    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["images"] == 6
    (line, *_) = log_of(tmp_path)
    assert log_of(tmp_path)[-1]["segm_mask_score/AP"] == evaluation["segm_mask_score"]["AP"]
    for key in ("loss_maskiou", "maskiou/target", "maskiou/prediction", "maskiou/abs_error"):
        assert key in line
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert (tmp_path / "model_final.pth").is_file()


def test_resume_continues_with_the_optimizer(cfg):
    cfg.DATASETS.TEST = ()
    cfg.SOLVER.MAX_ITER = 2
    first = train(cfg)
    averages = [s["exp_avg"].clone() for s in first.optimizer.state.values()]
    assert averages

    cfg.SOLVER.MAX_ITER = 4
    resumed = Trainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 2
    restored = [s["exp_avg"] for s in resumed.optimizer.state.values()]
    assert len(restored) == len(averages)
    assert all(torch.equal(a, b) for a, b in zip(averages, restored))
    resumed.train()
    assert resumed.iter == 4


def test_checkpoint_of_plain_detectron2_is_resumed_with_a_warning(cfg, tmp_path, caplog):
    """Detectron2 v0.6 does not save the optimizer."""
    cfg.DATASETS.TEST = ()
    cfg.SOLVER.MAX_ITER = 1
    train(cfg)
    checkpoint = torch.load(tmp_path / "model_final.pth")
    del checkpoint["trainer"]["_trainer"]
    torch.save(checkpoint, tmp_path / "model_final.pth")
    cfg.SOLVER.MAX_ITER = 2
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 1
    assert "no optimizer state" in caplog.text


@pytest.mark.parametrize("trust", [False, True])
def test_weights_are_trusted_only_on_request(trust, cfg, tmp_path):
    marker = tmp_path / "it_ran"
    path = tmp_path / "w.pkl"
    cfg.MODEL.WEIGHTS = str(path)
    for run in (
        lambda: evaluate(cfg, trust_weights=trust),
        lambda: Trainer(cfg, trust_weights=trust).resume_or_load(resume=False),
    ):
        marker.unlink(missing_ok=True)
        path.write_bytes(EXPLOITS["reduce_2.pkl"](f"touch {marker}", tmp_path / "beside"))
        with pytest.raises(UserError, match="is refused" if not trust else "is not a checkpoint"):
            run()
        assert marker.exists() == trust


def test_each_dataset_has_its_own_results_folder(cfg, tmp_path):
    cfg.DATASETS.TEST = (cfg.DATASETS.TEST[0], cfg.DATASETS.TRAIN[0])
    Trainer.test(cfg, Trainer.build_model(cfg))
    for name in cfg.DATASETS.TEST:
        assert (tmp_path / name / "evaluation.json").is_file()


@pytest.mark.slow
def test_test_time_augmentation_is_enabled_by_config(cfg, tmp_path):
    cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE = True, (64, 96), 200
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = Trainer.build_model(cfg)
    augmented = Trainer.test(cfg, model)
    assert "segm_mask_score" in augmented
    cfg.TEST.AUG.ENABLED = False
    assert Trainer.test(cfg, model)["bbox"] != augmented["bbox"]


@pytest.mark.parametrize("augmented", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_evaluation_in_bfloat16(cfg, augmented):
    cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE = augmented, (64, 96), 200
    cfg.TEST.DTYPE = "bfloat16"
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model, found = Trainer.build_model(cfg), {}
    for name, layer in model.named_modules():
        if name.endswith(("stem.conv1", "maskiou_fcn1", "cls_score")):
            key = name.rpartition(".")[2]
            layer.register_forward_hook(lambda *args, key=key: found.update({key: args[2].dtype}))
    assert "segm_mask_score" in Trainer.test(cfg, model)
    half = torch.bfloat16
    assert found == {"conv1": half, "maskiou_fcn1": half, "cls_score": torch.float32}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_line(cfg, monkeypatch):
    cfg.DATASETS.TEST = ()
    terminal, log = Terminal(), io.StringIO()
    hooks = Trainer.build_hooks
    monkeypatch.setattr(
        Trainer,
        "build_hooks",
        lambda self: [*hooks(self), ProgressLine(cfg, terminal), ProgressLine(cfg, log, period=3)],
    )
    train(cfg)
    assert terminal.getvalue().count("\r") == 4
    assert "step 4/4  loss " in terminal.getvalue()
    assert [line.split("  ")[0] for line in log.getvalue().splitlines()] == ["step 3/4", "step 4/4"]
    assert "maskiou 0." in log.getvalue()
    assert re.search(r"\d s/step  \d+\.\d images/s  \d+\.\d GB  0:00:00 left$", log.getvalue())


def test_progress_line_leaves_room_for_other_lines(cfg):
    """A checkpoint and an evaluation write below the line, not into it."""
    cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD = 2, 3
    terminal = Terminal()
    line = ProgressLine(cfg, terminal)
    line.trainer = SimpleNamespace(max_iter=5, storage=EventStorage())
    for line.trainer.iter in range(5):
        line.after_step()
    ends = [text.endswith("\n") for text in terminal.getvalue().split("\r")[1:]]
    assert ends == [False, True, True, True, True]


@pytest.mark.parametrize("minutes", [0, 10])
def test_timed_checkpoints_are_optional(cfg, minutes):
    cfg.SOLVER.CHECKPOINT_MINUTES = minutes
    names = [type(hook).__name__ for hook in Trainer(cfg)._hooks]
    assert ("TimedCheckpointer" in names) == (minutes > 0)
    if minutes:
        # Before the evaluation, which may fail.
        expected = ["PeriodicCheckpointer", "TimedCheckpointer", "EvalHook"]
        start = names.index(expected[0])
        assert names[start : start + 3] == expected


def test_evaluation_folds_batch_norms_and_restores_them(cfg, build):
    cfg.MODEL.RESNETS.NORM = "BN"
    model = build(cfg).train()
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    calls = []
    for norm in norms:
        norm.register_forward_hook(lambda *_: calls.append(1))
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert Trainer.test(cfg, model)
    assert norms
    assert not calls
    assert model.training
    found = model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
