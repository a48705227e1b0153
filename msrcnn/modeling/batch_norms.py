"""Finds the batch norms of a model that can be folded into the convolution before them."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn
from torch.fx import GraphModule, Node

Norm = FrozenBatchNorm2d | nn.modules.batchnorm._BatchNorm


def normalized_convolutions(model: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.Module, str]]:
    """Yields each convolution with the module and the attribute that hold its batch norm."""
    held = Counter(id(child) for module in model.modules() for child in module._modules.values())
    for module in model.modules():
        if has_plain_weight(module, Conv2d) and _has_statistics(module.norm):
            yield module, module, "norm"
        if isinstance(module, GraphModule):
            yield from _in_graph(module)
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            for (_, conv), (name, norm) in pairwise(module._modules.items()):
                once = held[id(conv)] == held[id(norm)] == 1
                if once and has_plain_weight(conv, nn.Conv2d) and _has_statistics(norm):
                    yield conv, module, name


def _in_graph(module: GraphModule) -> Iterator[tuple[nn.Conv2d, nn.Module, str]]:
    calls = [node.target for node in module.graph.nodes if node.op == "call_module"]
    for node in module.graph.nodes:
        norm = _called(module, node)
        if not _has_statistics(norm) or not isinstance(node.args[0], Node):
            continue
        conv, before = _called(module, node.args[0]), node.args[0]
        once = calls.count(node.target) == calls.count(before.target) == len(before.users) == 1
        if once and has_plain_weight(conv, nn.Conv2d):
            owner, _, name = str(node.target).rpartition(".")
            yield conv, module.get_submodule(owner), name


def _called(module: GraphModule, node: Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def has_plain_weight(layer: nn.Module | None, *types: type) -> bool:
    """Whether a layer's weight is used as it is: a subclass or a parametrization may change it."""
    return type(layer) in types and isinstance(layer.weight, nn.Parameter)


def _has_statistics(norm: nn.Module | None) -> bool:
    return isinstance(norm, Norm) and norm.running_mean is not None and norm.weight is not None
