"""Functions to call in another process, after it has imported the main module of this one."""

from collections.abc import Callable
from multiprocessing import spawn

# What multiprocessing tells a spawned process about modules: where they are, and which is the main
# module.
KEYS = ("sys_path", "init_main_from_name", "init_main_from_path")


class InThisProgram:
    """A picklable function for a process that runs another program.

    The process first imports the main module of this one, as multiprocessing does. If that is a
    script that registers a head or a loss and then calls :func:`msrcnn.cli.main`, the part is
    registered there, too.
    """

    def __init__(self, function: Callable[[], object]):
        self._function = function
        program = spawn.get_preparation_data("")
        self._program = {key: program[key] for key in KEYS if key in program}

    def __call__(self) -> object:
        spawn.prepare(self._program)
        return self._function()
