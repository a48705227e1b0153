"""Published results, how to reproduce them, and whether a run does."""

from .coco_plan import reproduction_plan
from .numbers import Published, load_published
from .reproduction import compare_with_published, verdict_table

__all__ = [
    "Published",
    "compare_with_published",
    "load_published",
    "reproduction_plan",
    "verdict_table",
]
