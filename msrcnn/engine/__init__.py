"""Runs: from a config to training and evaluation."""

from .config_rules import check_config
from .evaluate import evaluate, evaluate_predictions
from .launch import Processes, launch_processes
from .load_model import load_model, load_with_its_scores
from .prepare import prepare_config, prepare_model_config
from .replay import replay
from .run import run
from .schedule import scale_schedule
from .scoring_parts import use_scoring_parts
from .start import start_run
from .trainer import Trainer, train

__all__ = [
    "Processes",
    "Trainer",
    "check_config",
    "evaluate",
    "evaluate_predictions",
    "launch_processes",
    "load_model",
    "load_with_its_scores",
    "prepare_config",
    "prepare_model_config",
    "replay",
    "run",
    "scale_schedule",
    "start_run",
    "train",
    "use_scoring_parts",
]
