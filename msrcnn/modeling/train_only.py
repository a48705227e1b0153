"""Training a part of a model, with the rest left exactly as it is."""

import logging
from collections.abc import Iterable

import torch
from detectron2.utils.events import get_event_storage
from torch import nn

from ..errors import UserError

logger = logging.getLogger(__name__)


def train_only(model: nn.Module, patterns: Iterable[str]) -> None:
    """Freeze everything but the parameters whose name contains one of the patterns.

    Frozen parameters get no gradient, and so no place in an optimizer made afterwards. Batch
    norms of frozen layers keep their statistics, whatever puts the model into training mode.
    Losses that nothing trainable is part of are logged as ever, but are left out of what the
    model returns, and so of the total.

    Args:
        model: a Detectron2 model, not yet wrapped for data-parallel use; changed in place.
        patterns: parts of parameter names, such as ``"maskiou_head"``; none freezes nothing.

    Raises:
        UserError: if a pattern is in no parameter's name.
    """
    patterns = tuple(patterns)
    if not patterns:
        return
    # What the config has frozen already stays so.
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for pattern in patterns:
        if not any(pattern in name for name in names):
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise UserError(
                f"SOLVER.TRAIN_ONLY '{pattern}' is in the name of no parameter that can be "
                f"trained; those are parts of {', '.join(parts)}"
            )
    for name, parameter in model.named_parameters():
        if not any(pattern in name for pattern in patterns):
            parameter.requires_grad_(False)
    model.register_forward_pre_hook(_keep_frozen_statistics)
    model.register_forward_hook(_set_frozen_losses_apart)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info(
        *("Training %s alone: %d of %d parameters.", ", ".join(patterns), trained),
        sum(p.numel() for p in model.parameters()),
    )


def _keep_frozen_statistics(model: nn.Module, inputs: tuple) -> None:
    """Put batch norms without a trainable parameter into evaluation mode.

    Before every call: Detectron2's evaluation ends with ``model.train()``.
    """
    for module in model.modules():
        parameters = list(module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(
            p.requires_grad for p in parameters
        ):
            module.eval()


def _set_frozen_losses_apart(model: nn.Module, inputs: tuple, output):
    if not model.training or not isinstance(output, dict):
        return output
    frozen = {name: loss for name, loss in output.items() if not loss.requires_grad}
    trained = {name: loss for name, loss in output.items() if name not in frozen}
    if not trained:
        raise UserError("SOLVER.TRAIN_ONLY leaves nothing that a loss of the model depends on")
    # Detectron2 logs the losses it is given, but of a single one the total alone.
    unlogged = {**frozen, **(trained if len(trained) == 1 else {})}
    if unlogged:
        values = torch.stack([loss.detach().float() for loss in unlogged.values()])
        get_event_storage().put_scalars(**dict(zip(unlogged, values.tolist())))  # one transfer
    return trained
