"""Functions that another process calls, in the program of this one."""

from collections.abc import Callable
from multiprocessing import spawn

# Of what multiprocessing tells a process that it spawns: where modules are, and which one is run.
KEYS = ("sys_path", "init_main_from_name", "init_main_from_path")


class InThisProgram:
    """A function to pickle, for a process that has not been started with this program.

    The process first imports the main module of this one, as multiprocessing does, so that a script
    that registers a head or a loss and then calls :func:`msrcnn.cli.main` has registered it there.
    """

    def __init__(self, function: Callable[[], object]):
        self._function = function
        program = spawn.get_preparation_data("")
        self._program = {key: program[key] for key in KEYS if key in program}

    def __call__(self) -> object:
        spawn.prepare(self._program)
        return self._function()
