"""Inference in lower precision: layers run in it, boxes and scores stay in float32."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# The parts that take most of the time, by their names in Detectron2's models, and the method that
# runs each. Box predictors stay in float32: most of their scores are near 0 or 1, where lower
# precision makes many of them equal.
PARTS = {
    "backbone": "forward",
    "rpn_head": "forward",
    "box_head": "forward",
    "res5": "forward",
    "mask_head": "layers",
    "maskiou_head": "forward",
}


def compute_in(model: nn.Module, dtype: torch.dtype) -> Callable[[], None]:
    """Lets the parts of a model run under autocast, in place, for inference only.

    What a part returns is float32, so that RoIAlign, NMS and the encoding of masks compute as
    before.

    Args:
        model: a model of Detectron2; of other models, the parts that are named in ``PARTS``.
        dtype: number format of convolutions and matrix products.

    Returns:
        A function that restores the methods of the parts.
    """
    changed = []
    if dtype != torch.float32:
        for part, method in _parts(model):
            setattr(part, method, partial(_run, part, method, dtype))
            changed.append((part, method))

    def undo() -> None:
        while changed:
            delattr(*changed.pop())

    return undo


def _parts(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yields every part once, with its method.

    Leaves out parts whose method is already replaced, and parts of a backbone, such as its res5.
    """
    found: dict[int, tuple[nn.Module, str]] = {}
    backbones = [getattr(module, "backbone", None) for module in model.modules()]
    inside = {id(layer) for each in backbones if each is not None for layer in each.modules()}
    for module in model.modules():
        if id(module) in inside:
            continue
        for name, method in PARTS.items():
            part = getattr(module, name, None)
            for each in part if isinstance(part, nn.ModuleList) else [part]:  # Cascade has a list
                if hasattr(type(each), method) and isinstance(each, nn.Module):
                    found[id(each)] = each, method
    return ((part, method) for part, method in found.values() if method not in vars(part))


def _run(part: nn.Module, method: str, dtype: torch.dtype, *args, **kwargs) -> Any:
    device = next((p.device.type for p in part.parameters()), "cpu")
    with torch.autocast(device, dtype):
        return _as_float32(getattr(type(part), method)(part, *args, **kwargs))


def _as_float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _as_float32(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_as_float32(each) for each in value)
    return value
