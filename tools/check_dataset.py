#!/usr/bin/env python
"""Same as ``msrcnn check``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("check")
