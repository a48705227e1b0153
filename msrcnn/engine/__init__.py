"""Training and evaluation runs: set-up, the trainer, progress."""

from .config_checks import check_config
from .defaults import argument_parser, launch_tool, run_tool, setup
from .evaluate import evaluate_predictions
from .export import config_beside, export_model
from .model_tool import model_argument_parser, model_config
from .predictor import Predictor
from .schedule import scale_schedule
from .trainer import Trainer, evaluate, train

__all__ = [
    "Predictor",
    "Trainer",
    "argument_parser",
    "check_config",
    "config_beside",
    "evaluate",
    "evaluate_predictions",
    "export_model",
    "launch_tool",
    "model_argument_parser",
    "model_config",
    "run_tool",
    "scale_schedule",
    "setup",
    "train",
]
