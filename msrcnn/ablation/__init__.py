"""Ablation sweeps: trains the variants of a config with several seeds and compares them."""

from .outputs import samples_note, write_outputs
from .plan import Plan, Run, make_plan
from .scheduler import run_all
from .sweep import Sweep, load_sweep

__all__ = [
    "Plan",
    "Run",
    "Sweep",
    "load_sweep",
    "make_plan",
    "run_all",
    "samples_note",
    "write_outputs",
]
