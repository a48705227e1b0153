"""A training that diverges ends in one line, and its step can be run again."""

from types import SimpleNamespace

import pytest
import torch
from training_process import register, run_cfg

from msrcnn.checkpoint import load_checkpoint_file, write_weights
from msrcnn.engine import Trainer, replay
from msrcnn.engine.divergence import FILE, _last_good, divergence_error
from msrcnn.engine.launch import part_of_run
from msrcnn.errors import UserError

LAYER = "roi_heads.mask_head.predictor"
HUGE = 3e38  # finite, but its products are not


@pytest.fixture
def cfg(shapes_root, tmp_path):
    register(shapes_root)
    return run_cfg(shapes_root, tmp_path, **{"DATASETS.TEST": ()})


def diverge(cfg, weight):
    """Trains with a weight that lets the training diverge; returns the error's message."""
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.checkpointer.save("model_0000000")
    torch.nn.init.constant_(trainer.model.get_parameter(f"{LAYER}.weight"), weight)
    trainer.checkpointer.save("model_0000001")
    with pytest.raises(UserError) as raised:
        trainer.train()
    return str(raised.value)


@pytest.mark.parametrize(
    ("weight", "good", "where"),
    [
        (torch.nan, "model_0000000.pth", f"weight {LAYER}.weight, before the step"),
        (HUGE, "model_0000001.pth", f"output of {LAYER} (Conv2d)"),
    ],
)
def test_one_line_and_replay(cfg, tmp_path, old_pytorch, weight, good, where):
    message = diverge(cfg, weight)
    assert "\n" not in message
    assert message.startswith("training has diverged at iteration 0 (")
    assert "loss_mask nan" in message
    assert f"'{tmp_path / good}', the last good checkpoint" in message
    images = load_checkpoint_file(str(tmp_path / FILE), own=True)["images"][0]
    assert len(images) == cfg.SOLVER.IMS_PER_BATCH
    for name in images:
        assert name in message
    text = replay(cfg, str(tmp_path / FILE))  # it is the run's own
    assert "  loss_mask nan\n" in text
    assert "  loss_rpn_cls 0." in text
    assert f"first value that is not finite: {where}" in text


def test_images_of_all_processes(cfg, tmp_path, build):
    """Any process can write the file; the replay has the batch of each one."""
    expected = []
    for rank in range(2):
        with part_of_run(rank, 2):
            loader = Trainer.build_train_loader(cfg)
            loader.start = 3
            expected.append([image["file_name"] for image in next(iter(loader))])
    with part_of_run(1, 2):
        model = SimpleNamespace(model=build(cfg))
        loader = Trainer.build_train_loader(cfg)
        run = SimpleNamespace(cfg=cfg, iter=3, seed=7, data_loader=loader, checkpointer=model)
        error = divergence_error(run, FloatingPointError("no loss"))
    assert "iteration 3 (no loss) on the images " in str(error)
    assert "start again in a new OUTPUT_DIR" in str(error)
    assert load_checkpoint_file(str(tmp_path / FILE))["images"] == expected
    assert expected[0] != expected[1]
    lines = replay(cfg, str(tmp_path / FILE)).splitlines()
    first = [line for line in lines if not line.startswith(" ")]
    assert first == [f"iteration 3, process {r}: {', '.join(expected[r])}" for r in range(2)]
    assert lines.count("  first value that is not finite: none") == 2


def test_replay_of_another_file_or_run(cfg, tmp_path, build):
    write_weights(tmp_path / "other.pth", build(cfg).state_dict())
    with pytest.raises(UserError, match="not written by a training that has diverged"):
        replay(cfg, str(tmp_path / "other.pth"))
    diverge(cfg, HUGE)
    with pytest.raises(UserError, match="of another model"):
        replay(run_cfg("", "", **{"MODEL.MASKIOU_ON": False}), str(tmp_path / FILE))
    cfg.SOLVER.IMS_PER_BATCH = 1
    with pytest.raises(UserError, match="other images at iteration 0"):
        replay(cfg, str(tmp_path / FILE))


@pytest.mark.usefixtures("old_pytorch")
def test_last_good_checkpoint_is_read_by_any_pytorch(tmp_path):
    path = tmp_path / "model_0000001.pth"
    torch.save({"model": {"w": torch.ones(1)}}, path)
    assert _last_good(tmp_path) == path
