"""Python's garbage collection during an evaluation."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Stops it, also as a decorator.

    An evaluation makes millions of dicts and numbers, through which the collector would look again
    and again. None of them refer to each other in cycles, which only the collector would free.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
