"""Benchmarks, one per module, which ``tools/benchmark.py`` runs by name.

Every module provides ``add_arguments(parser)``, ``measure(args) -> dict`` and
``table(result) -> str``.
"""
