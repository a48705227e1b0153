#!/usr/bin/env python
"""Train Mask Scoring R-CNN (or Mask R-CNN) from a config, then evaluate it."""

from msrcnn.engine import argument_parser, launch_tool, train

if __name__ == "__main__":
    launch_tool(train, argument_parser(__doc__).parse_args())
