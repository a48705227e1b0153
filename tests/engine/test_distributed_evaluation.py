"""Evaluation in two processes (gloo, CPU) gives the same results as in one."""

import json
import socket

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils import comm
from torch import distributed, multiprocessing

from msrcnn import get_config
from msrcnn.engine import Trainer

PROCESSES = 2


def evaluate(cfg, annotations, images) -> None:
    torch.set_num_threads(1)
    if "distributed_val" not in DatasetCatalog.list():
        register_coco_instances("distributed_val", {}, annotations, images)
    torch.manual_seed(0)
    model = Trainer.build_model(cfg).eval()
    results = Trainer.test(cfg, model)
    assert bool(results) is comm.is_main_process()


def evaluate_as_rank(rank, port, *arguments) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=PROCESSES
    )
    comm._LOCAL_PROCESS_GROUP = distributed.new_group(list(range(PROCESSES)))
    evaluate(*arguments)
    distributed.destroy_process_group()


@pytest.fixture
def arguments(shapes_root):
    cfg = get_config("quick/smoke_ms_rcnn_R_18_FPN.yaml")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.TEST.BOOTSTRAP = 0
    cfg.DATASETS.TEST = ("distributed_val",)
    annotations = shapes_root / "annotations" / "instances_train.json"
    return cfg, str(annotations), str(shapes_root / "train")


def evaluation(folder):
    found = json.loads((folder / "evaluation.json").read_text())
    del found["seconds"]
    return found


@pytest.mark.slow
def test_two_processes_give_the_same_results_as_one(arguments, tmp_path):
    cfg, *data = arguments
    cfg.OUTPUT_DIR = str(tmp_path / "one")
    threads = torch.get_num_threads()
    evaluate(cfg, *data)
    torch.set_num_threads(threads)
    cfg.OUTPUT_DIR = str(tmp_path / "two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(evaluate_as_rank, (port, cfg, *data), nprocs=PROCESSES)
    one, two = evaluation(tmp_path / "one"), evaluation(tmp_path / "two")
    assert one["images"] == 12
    assert one["bbox"]["AP"] is not None
    assert one == two
    for name in ("coco_results_bbox.json", "coco_results_segm.json"):
        first, second = ((tmp_path / n / "inference" / name).read_text() for n in ("one", "two"))
        assert len(json.loads(first)) > 100
        assert first == second
