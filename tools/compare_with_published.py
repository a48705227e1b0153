#!/usr/bin/env python
"""Same as ``msrcnn compare``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("compare")
