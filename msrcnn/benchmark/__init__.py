"""What the model and its parts cost, each measured by one module.

A module has ``add_arguments(parser)``, ``measure(args) -> dict`` and ``table(result) -> str``;
``tools/benchmark.py`` names it on the command line, prints the table and writes the result.
"""
