#!/usr/bin/env python
"""Same as ``msrcnn doctor``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("doctor")
