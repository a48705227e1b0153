#!/usr/bin/env python
"""Same as ``msrcnn train``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("train")
