"""Mask Scoring R-CNN (Huang et al., CVPR 2019, arXiv 1903.00241) as an extension of Detectron2.

Importing the package registers what it adds, so that Detectron2 finds it by name: the mask head
that scores and the MaskIoU head, the made dataset, ``torchvision://`` weights.
"""

try:
    import detectron2  # noqa: F401
except ImportError as error:
    raise ImportError(
        "msrcnn needs Detectron2. Install it with `python tools/install_detectron2.py` (from "
        "PyPI, pure Python), or `make setup`, which does that and everything else."
    ) from error

from . import checkpoint, data, modeling  # noqa: F401  (they register what they have)
from .config import add_msrcnn_config, get_config
from .version import __version__

__all__ = ["__version__", "add_msrcnn_config", "get_config"]
