"""Errors of a config that show only when its model is built."""

import contextlib
from collections.abc import Iterator

from ..errors import UserError


@contextlib.contextmanager
def config_errors() -> Iterator[None]:
    """Turns what Detectron2 and PyTorch raise for parts that do not fit into a ``UserError``."""
    try:
        yield
    except UserError:
        raise
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__} {error}".strip()
        raise UserError(f"the model cannot be built from this config: {reason}") from error
