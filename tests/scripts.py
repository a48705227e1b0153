"""Runs scripts of the project as new processes, without the seconds that the imports take.

They are forked from a process that has everything imported, so that the environment variables are
those of the test session.
"""

import importlib.util
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from conftest import ROOT

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["msrcnn.cli", "msrcnn.engine", "msrcnn.evaluation"])


def load_script(name: str) -> ModuleType:
    """Returns a script of the project as a module.

    Args:
        name: path of the script in the project.
    """
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_script(name: str, *arguments: object, folder: Path = ROOT) -> subprocess.CompletedProcess:
    """Runs a script of the project.

    Args:
        name: path of the script in the project.
        *arguments: its arguments.
        folder: working directory; by default the folder of the project.
    """
    command = [str(ROOT / name), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as streams:
        outputs = [Path(streams) / stream for stream in ("stdout", "stderr")]
        process = _context.Process(target=_run, args=(command, outputs, folder))
        process.start()
        process.join()
        return subprocess.CompletedProcess(
            command, process.exitcode, *(output.read_text() for output in outputs)
        )


def _run(command: list[str], outputs: list[Path], folder: Path) -> None:
    for stream, output in enumerate(outputs, start=1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), stream)
    multiprocessing.set_start_method("fork", force=True)  # of data workers, as in any other run
    os.chdir(folder)
    sys.argv = command
    sys.path.insert(0, str(Path(command[0]).parent))
    runpy.run_path(command[0], run_name="__main__")
