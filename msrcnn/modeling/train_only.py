"""Trains selected parts of a model and leaves all other parameters and buffers unchanged."""

import logging
from collections.abc import Iterable

import torch
from detectron2.utils.events import get_event_storage
from torch import nn

from ..errors import UserError

logger = logging.getLogger(__name__)


def train_only(model: nn.Module, patterns: Iterable[str]) -> None:
    """Freezes all parameters whose name does not contain one of the patterns.

    Frozen parameters have no gradient, so an optimizer built afterwards does not include them.
    BatchNorm layers without trainable parameters keep their statistics, even in training mode.
    Losses that do not depend on trainable parameters are still logged, but the model does not
    return them, so they are not part of the total loss.

    Args:
        model: a Detectron2 model, before it is wrapped in ``DistributedDataParallel``; modified in
            place.
        patterns: substrings of parameter names, e.g. ``"maskiou_head"``. If empty, nothing is
            frozen.

    Raises:
        UserError: if no trainable parameter's name contains one of the patterns.
    """
    patterns = tuple(patterns)
    if not patterns:
        return
    # Parameters frozen by the config stay frozen.
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for pattern in patterns:
        if not any(pattern in name for name in names):
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise UserError(
                f"SOLVER.TRAIN_ONLY '{pattern}' does not match any trainable parameter; the model "
                f"has trainable parameters in: {', '.join(parts)}"
            )
    for name, parameter in model.named_parameters():
        if not any(pattern in name for pattern in patterns):
            parameter.requires_grad_(False)
    model.register_forward_pre_hook(_keep_frozen_statistics)
    model.register_forward_hook(_drop_frozen_losses)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info(
        "Training only %s: %d of %d parameters.",
        ", ".join(patterns),
        trained,
        sum(p.numel() for p in model.parameters()),
    )


def _keep_frozen_statistics(model: nn.Module, inputs: tuple) -> None:
    """Sets BatchNorm layers without trainable parameters to evaluation mode.

    It runs before every forward pass, because Detectron2 calls ``model.train()`` after evaluation.
    """
    for module in model.modules():
        parameters = list(module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(
            p.requires_grad for p in parameters
        ):
            module.eval()


def _drop_frozen_losses(model: nn.Module, inputs: tuple, output):
    """Logs the losses that do not depend on trainable parameters, and returns the others."""
    if not model.training or not isinstance(output, dict):
        return output
    frozen = {name: loss for name, loss in output.items() if not loss.requires_grad}
    trained = {name: loss for name, loss in output.items() if name not in frozen}
    if not trained:
        raise UserError(
            "SOLVER.TRAIN_ONLY freezes all parameters that the losses of the model depend on; add "
            "a part of the model that a loss depends on"
        )
    # Detectron2 logs the losses that the model returns, but a single one only as the total.
    unlogged = {**frozen, **(trained if len(trained) == 1 else {})}
    if unlogged:
        values = torch.stack([loss.detach().float() for loss in unlogged.values()])
        get_event_storage().put_scalars(**dict(zip(unlogged, values.tolist())))  # one transfer
    return trained
