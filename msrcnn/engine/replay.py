"""Repeats the step at which a training diverged, to find the first value that is not finite."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from ..checkpoint import load_checkpoint_file
from ..data.custom import register_custom_datasets
from ..errors import UserError
from .device import on_available_device
from .divergence import first_not_finite
from .gradient_step import autocast, micro_batches
from .launch import part_of_run
from .run_log import silence_known_warnings
from .trainer import Trainer, seed_step


def replay(cfg: CfgNode, path: str) -> str:
    """Repeats the step of each process, one process after the other, without an update.

    Args:
        cfg: the config of the training.
        path: the file that :func:`~.divergence.divergence_error` has written.

    Returns:
        For each process, the images, every loss and the first value that is not finite, as text.

    Raises:
        UserError: if the file is another one, or does not belong to this config and data.
    """
    silence_known_warnings()
    cfg = on_available_device(cfg)
    register_custom_datasets(cfg)
    own = Path(path).resolve().parent == Path(cfg.OUTPUT_DIR).resolve()
    step = load_checkpoint_file(path, own=own)
    if "processes" not in step:
        raise UserError(f"--replay '{path}' was not written by a training that has diverged")
    model = Trainer.build_model(cfg).train()
    try:
        model.load_state_dict(step["model"])
    except RuntimeError as error:
        raise UserError(
            f"--replay '{path}' is of another model: use config.yaml of its training"
        ) from error
    lines = []
    for rank, names in enumerate(step["images"]):
        with part_of_run(rank, step["processes"]):
            loader = Trainer.build_train_loader(cfg)
            loader.seed, loader.start = step["seed"], step["iteration"]
            if [image["file_name"] for image in loader.images(step["iteration"])] != names:
                raise UserError(
                    f"--replay '{path}' had other images at iteration {step['iteration']}: the "
                    "config or the data have changed since"
                )
            batch = next(iter(loader))
        seed_step(step["seed"], rank, step["iteration"])
        with EventStorage(step["iteration"]):
            losses, where = _run(cfg, model, batch)
        lines.append(f"iteration {step['iteration']}, process {rank}: {', '.join(names)}")
        lines += [f"  {name} {value:.6g}" for name, value in losses.items()]
        lines.append(f"  first value that is not finite: {where or 'none'}")
    return "\n".join(lines)


def _run(cfg: CfgNode, model: nn.Module, batch: list[dict]) -> tuple[dict[str, float], str | None]:
    """Returns the losses of a batch, and where the first value that is not finite appears."""
    if name := first_not_finite(model.state_dict()):
        where = f"weight {name}, before the step: an earlier update was too large"
    else:
        where = None
    losses: dict[str, Tensor] = {}
    parts = cfg.SOLVER.ACCUMULATE_STEPS
    with (
        _watched(model) as found,
        autocast(cfg),
        contextlib.suppress(FloatingPointError),  # of the RPN
    ):
        for part in micro_batches(batch, parts):
            for name, loss in model(part).items():
                losses[name] = losses.get(name, 0) + loss / parts
    where = where or next(iter(found), None)
    if where is None and (name := first_not_finite(losses)):
        where = name
    if where is None:
        model.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        # Those of the last layers are computed first.
        if name := first_not_finite(dict(reversed(gradients.items()))):
            where = f"gradient of {name}"
    return {name: loss.item() for name, loss in losses.items()}, where


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[list[str]]:
    """Collects the modules whose output has a value that is not finite, the first one first."""
    found: list[str] = []

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def check(_: object, __: object, output: object) -> None:
            if any(not torch.isfinite(each).all() for each in _tensors(output)):
                found.append(f"output of {name} ({type(module).__name__})")

        return module.register_forward_hook(check)

    handles = [watch(name, module) for name, module in model.named_modules() if name]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        yield from _tensors(list(output.values()))
    elif isinstance(output, list | tuple):
        for each in output:
            yield from _tensors(each)
