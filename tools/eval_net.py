#!/usr/bin/env python
"""Same as ``msrcnn eval``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("eval")
