"""Slurm's commands, as a cluster of one machine would answer them."""

import os
import stat
import sys
from pathlib import Path

SBATCH = """#!{python}
# Runs the script in the background, as Slurm would on another machine.
import os, pathlib, shutil, subprocess, sys, time
folder = pathlib.Path("{folder}")
job_id = str(time.monotonic_ns() // 1000)  # submitit remembers numbers beyond a test
shutil.copy(sys.argv[1], folder / f"{{job_id}}.sh")
environment = dict(os.environ, SLURM_JOB_ID=job_id, SLURM_NTASKS="1", SLURM_PROCID="0",
                   SLURM_LOCALID="0", SLURM_NODEID="0", SLURM_JOB_NUM_NODES="1")
log = open(folder / f"{{job_id}}.log", "w")
process = subprocess.Popen(["bash", sys.argv[1]], env=environment, start_new_session=True,
                           stdout=log, stderr=log)
(folder / "part").write_text(str(process.pid))
(folder / "part").replace(folder / f"{{job_id}}.pid")
print(f"Submitted batch job {{job_id}}")
"""
SRUN = """#!{python}
# Runs the command with its output in the files that the options name.
import os, sys
arguments = sys.argv[1:]
for stream, option in ((1, "--output"), (2, "--error")):
    path = arguments[arguments.index(option) + 1]
    path = path.replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
command = arguments[arguments.index("--error") + 2:]
os.execvp(command[0], command)
"""
JOBS = """
# A job exists as long as its process, or until it has been started again after a requeue.
import pathlib
folder = pathlib.Path("{folder}")
def is_running(job_id):
    stat = pathlib.Path("/proc", (folder / f"{{job_id}}.pid").read_text(), "stat")
    try:
        return stat.read_text().rsplit(")")[1].split()[0] != "Z"
    except OSError:
        return False
def exists(job_id):
    return (folder / f"{{job_id}}.requeued").exists() or is_running(job_id)
jobs = [path.stem for path in folder.glob("*.pid")]
"""
SACCT = f"""#!{{python}}
{JOBS}
print("JobID|State|NodeList")
for job_id in jobs:
    print(f"{{{{job_id}}}}|{{{{'RUNNING' if exists(job_id) else 'FAILED'}}}}|here")
"""
SQUEUE = f"""#!{{python}}
{JOBS}
print(*filter(exists, jobs), sep=chr(10))
"""
SCONTROL = f"""#!{{python}}
# Records its arguments, and runs the script again once its process has ended.
import os, subprocess, sys, time
{JOBS}
with (folder / "scontrol.txt").open("a") as file:
    file.write(" ".join(sys.argv[1:]) + chr(10))
_, job_id = sys.argv[1:]
(folder / f"{{{{job_id}}}}.requeued").touch()
if os.fork() == 0:
    os.setsid()
    while is_running(job_id):
        time.sleep(0.02)
    log = open(folder / f"{{{{job_id}}}}.log", "a")
    environment = dict(os.environ, SLURM_RESTART_COUNT="1")
    process = subprocess.Popen(["bash", folder / f"{{{{job_id}}}}.sh"], env=environment,
                               stdout=log, stderr=log)
    (folder / "part").write_text(str(process.pid))
    (folder / "part").replace(folder / f"{{{{job_id}}}}.pid")
    (folder / f"{{{{job_id}}}}.requeued").unlink()
    process.wait()
"""


def add_slurm(root: Path, path: str) -> str:
    """Writes the commands.

    Args:
        root: receives ``bin/``, the commands, and ``slurm/``, their records: the script, the log
            and the process id of each job.
        path: the current ``$PATH``.

    Returns:
        ``$PATH`` with the commands in it.
    """
    commands, folder = root / "bin", root / "slurm"
    commands.mkdir()
    folder.mkdir()
    scripts = {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "squeue": SQUEUE}
    for name, script in {**scripts, "scontrol": SCONTROL}.items():
        command = commands / name
        command.write_text(script.format(python=sys.executable, folder=folder))
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return f"{commands}{os.pathsep}{path}"
