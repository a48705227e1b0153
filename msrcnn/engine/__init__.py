"""Training and evaluation runs: set-up, the trainer, progress."""

from .config_checks import check_config
from .defaults import argument_parser, launch_tool, run_tool, setup
from .evaluation import evaluate_predictions
from .schedule import scale_schedule
from .trainer import Trainer, evaluate

__all__ = [
    "Trainer",
    "argument_parser",
    "check_config",
    "evaluate",
    "evaluate_predictions",
    "launch_tool",
    "run_tool",
    "scale_schedule",
    "setup",
]
