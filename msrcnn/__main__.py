"""``python -m msrcnn``."""

import sys

from .cli import main

sys.argv[0] = "msrcnn"  # in messages and records, as the command of that name
main()
