"""Python's garbage collection during an evaluation."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Disables the garbage collector, as a context manager or a decorator.

    An evaluation creates millions of dicts and numbers, which the collector would traverse again
    and again. None of them form cycles, which only the collector could free.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
