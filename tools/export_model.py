#!/usr/bin/env python
"""Same as ``msrcnn export``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("export")
