#!/usr/bin/env python
"""Same as ``msrcnn ablate``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("ablate")
