#!/usr/bin/env python
"""Same as ``msrcnn draw``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("draw")
