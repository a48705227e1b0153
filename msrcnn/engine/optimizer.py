"""Optimizers: Detectron2's SGD, and AdamW for short training from scratch."""

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer as build_sgd
from detectron2.solver import get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping


def build_adamw(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Builds AdamW with PyTorch's betas, Detectron2's parameter groups and gradient clipping."""
    solver = cfg.SOLVER
    rates = {"lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY}
    params = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    return maybe_add_gradient_clipping(cfg, torch.optim.AdamW)(params, **rates)


OPTIMIZERS = {"sgd": build_sgd, "adamw": build_adamw}


def build_optimizer(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Builds the optimizer named by ``SOLVER.OPTIMIZER``."""
    return OPTIMIZERS[cfg.SOLVER.OPTIMIZER](cfg, model)
