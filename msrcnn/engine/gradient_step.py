"""A step of training in parts (``ACCUMULATE_STEPS``) or in mixed precision (``SOLVER.AMP``)."""

import contextlib
import time
from collections.abc import Iterable, Iterator

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn

from ..modeling.number_format import DTYPES

AMP_DTYPES = ("float16", "bfloat16")


def scales_gradients(cfg: CfgNode) -> bool:
    """Whether a training needs Detectron2's gradient scaler, for the small range of float16."""
    return cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.AMP.DTYPE == "float16"


def micro_batches(batch: list, parts: int) -> Iterator[list]:
    """Yields the parts of a batch, of the same size, in order."""
    size = len(batch) // parts
    for start in range(0, len(batch), size):
        yield batch[start : start + size]


def autocast(cfg: CfgNode) -> torch.autocast:
    """Returns the context of a config's mixed precision; without any, it changes nothing."""
    amp = cfg.SOLVER.AMP
    device = torch.device(cfg.MODEL.DEVICE).type
    return torch.autocast(device, DTYPES[amp.DTYPE], enabled=amp.ENABLED)


def build_gradient_step(
    cfg: CfgNode, model: nn.Module, loader: Iterable, optimizer: torch.optim.Optimizer
) -> SimpleTrainer:
    """Builds the part of a trainer that takes the steps.

    It is Detectron2's, unless the config asks for what Detectron2 does not have.

    Args:
        cfg: config of the run, for this machine.
        model: the model, in any wrapper for several processes.
        loader: yields a batch of this process for each step.
        optimizer: the optimizer of the model.
    """
    own_precision = cfg.SOLVER.AMP.ENABLED and not scales_gradients(cfg)
    if own_precision or cfg.SOLVER.ACCUMULATE_STEPS > 1:
        return GradientStep(cfg, model, loader, optimizer)
    return (AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer)(model, loader, optimizer)


class GradientStep(SimpleTrainer):
    """Takes steps in parts, and in float16 or bfloat16.

    The gradient is the mean over the parts, as it is over the processes of a run: N parts in one
    process and one part in each of N processes give the same step. The loss of a part is a mean
    over its own proposals, so the step is also that of the undivided batch if all parts have the
    same number of proposals.
    """

    def __init__(
        self, cfg: CfgNode, model: nn.Module, loader: Iterable, optimizer: torch.optim.Optimizer
    ):
        """See :func:`build_gradient_step`."""
        super().__init__(model, loader, optimizer)
        self._cfg, self._parts = cfg, cfg.SOLVER.ACCUMULATE_STEPS
        self.grad_scaler = torch.amp.GradScaler("cuda") if scales_gradients(cfg) else None

    def run_step(self) -> None:
        assert self.model.training, "the model is in evaluation mode"
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        means: dict[str, torch.Tensor] = {}
        for number, part in enumerate(micro_batches(batch, self._parts), start=1):
            with self._synchronized(number == self._parts):
                with autocast(self._cfg):
                    losses = self.model(part)
                    total = sum(losses.values()) / self._parts
                (self.grad_scaler.scale(total) if self.grad_scaler else total).backward()
            for name, loss in losses.items():
                means[name] = means.get(name, 0) + loss.detach() / self._parts
        self._write_metrics(means, data_time)  # raises if a loss is not finite
        if self.grad_scaler:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        else:
            self.optimizer.step()

    def _synchronized(self, last: bool) -> contextlib.AbstractContextManager:
        """Lets processes exchange gradients only once per step, with the last part."""
        alone = last or not hasattr(self.model, "no_sync")
        return contextlib.nullcontext() if alone else self.model.no_sync()

    def state_dict(self) -> dict:
        state = super().state_dict()
        if self.grad_scaler:
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        if self.grad_scaler:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
