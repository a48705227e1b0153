#!/usr/bin/env python
"""Same as ``msrcnn fit-scores``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("fit-scores")
