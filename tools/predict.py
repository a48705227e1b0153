#!/usr/bin/env python
"""Same as ``msrcnn predict``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("predict")
