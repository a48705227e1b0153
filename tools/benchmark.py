#!/usr/bin/env python
"""Same as ``msrcnn benchmark``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("benchmark")
