#!/usr/bin/env python
"""Same as ``msrcnn convert``."""

from msrcnn.cli import main

if __name__ == "__main__":
    main("convert")
