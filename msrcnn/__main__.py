"""``python -m msrcnn``."""

from .cli import main

main()
