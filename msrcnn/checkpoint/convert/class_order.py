"""The order in which libraries store the outputs of class-dependent layers."""

from collections.abc import Sequence

from torch import Tensor

from ..class_layers import CLASS_LAYERS


class BackgroundLast:
    """Detectron2's order: only the classifier has a background output, and it is the last."""

    def __init__(self, num_outputs: int):
        """
        Args:
            num_outputs: the number of outputs of the classifier, including the background.
        """
        self.num_classes = num_outputs - 1

    def source_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of a parameter in the other library.

        Args:
            name: Detectron2's name of the parameter.
            shape: its shape in Detectron2.
        """
        return shape

    def reorder(self, name: str, parameter: Tensor) -> Tensor:
        """Converts a parameter from the other library's order to Detectron2's.

        Args:
            name: Detectron2's name of the parameter.
            parameter: tensor of shape :meth:`source_shape`.
        """
        return parameter


class BackgroundFirst(BackgroundLast):
    """The background is output 0 of every class-dependent layer."""

    def __init__(self, num_outputs: int, foreground: Sequence[int] | None = None):
        """
        Args:
            num_outputs: the number of outputs of the classifier, including the background.
            foreground: the outputs that are classes, in Detectron2's order. The default is all
                outputs but 0.
        """
        self.num_outputs = num_outputs
        self.foreground = list(range(1, num_outputs) if foreground is None else foreground)
        self.num_classes = len(self.foreground)

    def source_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        outputs = CLASS_LAYERS.get(_layer(name))
        return (outputs.each * self.num_outputs, *shape[1:]) if outputs else shape

    def reorder(self, name: str, parameter: Tensor) -> Tensor:
        outputs = CLASS_LAYERS.get(_layer(name))
        if outputs is None:
            return parameter
        order = self.foreground + [0] * outputs.background
        return parameter.unflatten(0, (-1, outputs.each))[order].flatten(0, 1)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
