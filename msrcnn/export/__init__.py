"""Exports of a trained model: its weights, TorchScript and ONNX."""

from .export_model import FORMATS, export_model
from .weights_format import export_weights

__all__ = ["FORMATS", "export_model", "export_weights"]
