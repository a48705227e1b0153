"""Training in a separate process that can be killed at any moment."""

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import HookBase

from msrcnn import get_config
from msrcnn.engine import Trainer
from msrcnn.engine.run_log import silence_known_warnings


def run_cfg(root, output_dir, **changes):
    """Returns a config of a few iterations on the synthetic shapes dataset.

    It crops and resizes images, evaluates, and saves checkpoints.

    Args:
        root: folder of the dataset.
        output_dir: output folder.
        **changes: values by config key.
    """
    cfg = get_config("quick/smoke_ms_rcnn_R_18_FPN.yaml")
    cfg.MODEL.DEVICE, cfg.OUTPUT_DIR, cfg.SEED = "cpu", str(output_dir), 7
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (f"train of {root}",), (f"val of {root}",)
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.MIN_SIZE_TRAIN = True, (64, 80, 96)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD = 9, 2, 4
    cfg.SOLVER.STEPS, cfg.SOLVER.LR_SCHEDULER_NAME = (5, 8), "WarmupMultiStepLR"
    cfg.SOLVER.WARMUP_ITERS = 3
    cfg.TEST.BOOTSTRAP, cfg.DATALOADER.NUM_WORKERS = 0, 0
    for key, value in changes.items():
        cfg.merge_from_list([key, value])
    return cfg


def register(root):
    for split in ("train", "val"):
        if f"{split} of {root}" not in DatasetCatalog.list():
            annotations = f"{root}/annotations/instances_{split}.json"
            register_coco_instances(f"{split} of {root}", {}, annotations, f"{root}/{split}")


class LossLog(HookBase):
    """Logs every loss of every iteration without smoothing, unlike Detectron2's own log."""

    def after_step(self):
        latest = self.trainer.storage.latest()
        losses = {name: value for name, (value, _) in latest.items() if "loss" in name}
        with open(f"{self.trainer.cfg.OUTPUT_DIR}/losses.jsonl", "a") as file:
            file.write(json.dumps({"iteration": self.trainer.iter, **losses}) + "\n")


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def train(root, cfg, *, kill_after=None, kill_in_save=None):
    """Trains, resuming from the last checkpoint if there is one.

    Args:
        root: folder of the dataset.
        cfg: see :func:`run_cfg`.
        kill_after: seconds after which the process kills itself.
        kill_in_save: number of the save during which the process kills itself.
    """
    # Fork data workers, as in any other run, so that they notice when this process ends.
    multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(1)
    silence_known_warnings()
    register(root)
    torch.manual_seed(cfg.SEED)
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    trainer.register_hooks([LossLog()])
    trainer._hooks.insert(0, trainer._hooks.pop())  # log losses before saving a checkpoint
    if kill_after is not None:
        timer = threading.Timer(kill_after, kill_self)
        timer.daemon = True  # a finished run does not wait for it
        timer.start()
    if kill_in_save is not None:
        _kill_in_save(kill_in_save)
    start = time.monotonic()
    trainer.train()
    Path(cfg.OUTPUT_DIR, "seconds").write_text(str(time.monotonic() - start))


def _kill_in_save(number):
    original_save, saves = torch.save, []

    def save(content, file, **kwargs):
        original_save(content, file, **kwargs)
        saves.append(content)
        if len(saves) == number:
            file.flush()
            file.truncate(file.tell() // 2)
            kill_self()

    torch.save = save
