"""The commands of ``msrcnn``, one module each.

A module has a docstring, which ``-h`` shows, ``add_arguments(parser)`` and ``run(args)``, which
raises ``UserError`` for a user's mistake. ``args.command_line`` is the command as it was typed,
for records.
"""
