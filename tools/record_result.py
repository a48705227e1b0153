#!/usr/bin/env python
"""Same as ``msrcnn record``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("record")
