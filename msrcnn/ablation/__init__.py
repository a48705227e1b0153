"""Ablation sweeps: variants of one config, trained over seeds, as one table."""

from .outputs import write_report
from .plan import Plan, Run, make_plan
from .scheduler import run_all
from .sweep import Sweep, load_sweep

__all__ = ["Plan", "Run", "Sweep", "load_sweep", "make_plan", "run_all", "write_report"]
