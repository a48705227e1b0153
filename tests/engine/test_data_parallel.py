"""Training in two processes (gloo, CPU): gradients, images without foreground, random numbers."""

import random
import socket
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from rectangles import batch, empty_ground_truth, ground_truth
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from msrcnn import get_config
from msrcnn.engine import Trainer
from msrcnn.engine.early_stop import EarlyStop
from msrcnn.engine.gradient_step import GradientStep
from msrcnn.modeling import MaskIoUHead, MaskScoringHead

PROCESSES, STEPS, CLASSES = 2, 2, 6
IMAGES = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


class HeadLoss(torch.nn.Module):
    """The losses of a mask head on its own, whose foreground proposals can be chosen."""

    def __init__(self):
        super().__init__()
        shape, masks = ShapeSpec(8, 14, 14), ShapeSpec(CLASSES, 28, 28)
        scorer = MaskIoUHead(shape, masks, num_classes=CLASSES, conv_dims=[8] * 4, fc_dims=[16])
        self.head = MaskScoringHead(
            shape, num_classes=CLASSES, conv_dims=[8], maskiou_head=scorer, maskiou_thresh=-1.0
        )

    def forward(self, features, proposals):
        return sum(self.head(features, proposals).values())


def proposals():
    """Three foreground proposals in each of two images, with their features."""
    images = [ground_truth(3), ground_truth(3, "polygon")]
    for image, shift in zip(images, (2, -3)):
        image.proposal_boxes = image.gt_boxes.clone()
        image.proposal_boxes.tensor += shift
    return torch.randn(6, 8, 14, 14, generator=torch.Generator().manual_seed(0)), images


def train_head(head, features, images):
    """Returns the parameters after a step."""
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    with EventStorage():
        head(features, images).backward()
    optimizer.step()
    return [p.detach().clone() for p in head.parameters()]


def untrained_head():
    torch.manual_seed(0)
    return HeadLoss()


def tiny_model():
    cfg = get_config("quick/smoke_ms_rcnn_R_18_FPN.yaml")
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    return build_model(cfg).train()


def shard(rank):
    """The second process has no foreground, and no masks."""
    return batch(ground_truth(2) if rank == 0 else empty_ground_truth())


def losses_of_step(model, rank, step):
    torch.manual_seed(10 * step + rank)
    with EventStorage():
        return model(shard(rank))


class Drawing:
    """Draws random numbers in place of a training step."""

    def run_step(self):
        self.drawn = [torch.rand(1).item(), np.random.rand(), random.random()]


def random_numbers():
    """The numbers drawn in each of two iterations of a trainer."""
    trainer = Trainer.__new__(Trainer)
    trainer.seed, trainer._trainer = 7, Drawing()
    numbers = []
    for trainer.iter in range(2):
        trainer.run_step()
        numbers.append(trainer._trainer.drawn)
    return numbers


class Square(torch.nn.Module):
    """A model with one parameter, and a loss whose parts are means like those of a detector."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        return {"loss": ((self.weight * torch.tensor(images) - 1) ** 2).mean()}


def step_in_parts(model, images, parts):
    """Returns the parameter after a step, and the logged loss."""
    cfg = get_config("quick/smoke_ms_rcnn_R_18_FPN.yaml")
    cfg.MODEL.DEVICE, cfg.SOLVER.ACCUMULATE_STEPS = "cpu", parts
    step = GradientStep(cfg, model, [images], torch.optim.SGD(model.parameters(), lr=0.1))
    with EventStorage() as step.storage:
        step.run_step()
        logged = step.storage.latest().get("total_loss")
    return next(model.parameters()).item(), logged and logged[0]


def ends_early(rank):
    """Whether a process ends at step 6 with the best evaluation, that of step 2, in the first."""
    cfg = get_config("quick/smoke_ms_rcnn_R_18_FPN.yaml")
    cfg.SOLVER.KEEP_BEST, cfg.SOLVER.EARLY_STOP, cfg.TEST.EVAL_PERIOD = "bbox/AP", 2, 2
    keep_best = SimpleNamespace(best_steps=2) if rank == 0 else None
    hook = EarlyStop(cfg, SimpleNamespace(save=lambda *_, **__: None), keep_best)
    hook.trainer = SimpleNamespace(max_iter=10, stops=False)
    stopped = []
    for hook.trainer.iter in range(6):
        hook.after_step()
        stopped.append(hook.trainer.stops)
    return stopped


def as_rank(rank, port, folder):
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", address, rank=rank, world_size=PROCESSES)
    comm._LOCAL_PROCESS_GROUP = distributed.new_group(list(range(PROCESSES)))

    features, images = proposals()
    head = DistributedDataParallel(untrained_head())
    half = slice(3 * rank, 3 * rank + 3)
    found = {"head": train_head(head, features[half], images[rank : rank + 1])}

    # As Detectron2 does: a parameter that does not take part would be an error in the next step.
    model = DistributedDataParallel(tiny_model(), broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    found["losses"] = []
    for step in range(STEPS):
        losses = losses_of_step(model, rank, step)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        found["losses"].append({name: loss.item() for name, loss in losses.items()})
    found["model"] = [p.detach() for p in model.parameters()]

    found["random"] = random_numbers()
    shared = DistributedDataParallel(Square())
    found["parts"] = step_in_parts(shared, IMAGES[4 * rank : 4 * rank + 4], parts=2)
    found["ends_early"] = ends_early(rank)
    torch.save(found, folder / f"{rank}.pth")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(as_rank, (port, folder), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pth") for rank in range(PROCESSES)]


def assert_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_equal_numbers_of_proposals_train_like_one_process_with_all_of_them(ranks):
    """Each process averages over its own proposals, so equal numbers give the average of all."""
    untrained = [p.detach().clone() for p in untrained_head().parameters()]
    expected = train_head(untrained_head(), *proposals())
    assert not any(torch.equal(a, b) for a, b in zip(untrained, expected))
    for rank in ranks:
        assert_close(rank["head"], expected)


def test_step_is_that_of_the_average_gradient_even_if_a_process_has_no_foreground(ranks):
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(STEPS):
        gradients = []
        for rank in range(PROCESSES):
            losses = losses_of_step(model, rank, step)
            model.zero_grad()
            sum(losses.values()).backward()
            gradients.append([p.grad.clone() for p in model.parameters()])
            found = ranks[rank]["losses"][step]
            assert found == pytest.approx({n: x.item() for n, x in losses.items()}, rel=1e-4)
        for parameter, *of_ranks in zip(model.parameters(), *gradients):
            parameter.grad = sum(of_ranks) / PROCESSES
        optimizer.step()
    assert ranks[0]["losses"][0]["loss_maskiou"] > 0 == ranks[1]["losses"][0]["loss_maskiou"]
    for rank in ranks:
        assert_close(rank["model"], model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(ranks[0]["model"], ranks[1]["model"]))


def test_parts_in_two_processes_are_those_of_one_process(ranks):
    weight, loss = step_in_parts(Square(), IMAGES, parts=4)
    whole, _ = step_in_parts(Square(), IMAGES, parts=1)
    assert weight == pytest.approx(whole) != 1
    assert [rank["parts"][0] for rank in ranks] == pytest.approx([weight, weight])
    assert ranks[0]["parts"][1] == pytest.approx(loss)  # logged by the main process


def test_processes_end_early_together(ranks):
    assert ranks[0]["ends_early"] == ranks[1]["ends_early"] == [False] * 5 + [True]


def test_processes_draw_different_random_numbers(ranks):
    numbers = [number for rank in ranks for drawn in rank["random"] for number in drawn]
    assert len(set(numbers)) == len(numbers) == PROCESSES * 2 * 3
    assert ranks[0]["random"] == random_numbers()
