"""``tools/ablate.py``: a sweep from its arguments to its table."""

import argparse
import shlex
import signal
import sys

from ..engine.defaults import silence_known_warnings
from ..errors import UserError
from .display import Display
from .estimate import estimate
from .launcher import Launcher, LocalLauncher, SlurmLauncher
from .outputs import write_report
from .plan import Plan, make_plan
from .scheduler import State, Status, run_all
from .sweep import load_sweep

DAY = 24 * 60  # minutes


def ablate(args: argparse.Namespace) -> None:
    """Do what the arguments of ``tools/ablate.py`` ask for.

    Raises:
        UserError: for a mistake, found before anything is trained; in the end, if a run has
            failed.
    """
    silence_known_warnings()
    plan = _plan(args)
    # What made the results, also where their tables are made again.
    arguments = [argument for argument in sys.argv[1:] if argument != "--report-only"]
    command = shlex.join(["tools/ablate.py", *arguments])
    if args.report_only:
        print(write_report(plan, args.output_dir, command))
        return
    launcher = _launcher(args)
    if args.dry_run:
        print(estimate(plan, places=launcher.places, num_gpus=launcher.num_gpus))
        return
    states = _run(plan, launcher, command)
    if any(run.finished for run in plan.runs):
        print(f"\n{write_report(plan, args.output_dir, command)}\n\nResults in {args.output_dir}")
    _raise_failures(states)


def _plan(args: argparse.Namespace) -> Plan:
    sweep = load_sweep(args.sweep)
    protocol = sweep.protocol(args.protocol, quick=args.quick)
    return make_plan(
        sweep,
        protocol,
        (args.runs_dir or args.output_dir / "runs").resolve(),
        head_only=args.head_only,
        arguments={"train_data": args.train_data, "val_data": args.val_data},
        opts=args.opts,
    )


def _launcher(args: argparse.Namespace) -> Launcher:
    if args.launcher == "slurm":
        if args.slots:
            raise UserError("--slots is of --launcher local; Slurm decides what runs when")
        gpus = 1 if args.gpus is None else args.gpus
        return SlurmLauncher(gpus=gpus, partition=args.partition, minutes=args.time or DAY)
    if args.partition:
        raise UserError("--partition is of --launcher slurm")
    if args.time is not None:
        raise UserError("--time is of --launcher slurm")
    return LocalLauncher(gpus=args.gpus, slots=args.slots)


def _run(plan: Plan, launcher: Launcher, command: str) -> list[State]:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as of nohup
            signal.signal(number, lambda *_: sys.exit())
    column, key = next(iter(plan.sweep.report.items()))
    with Display(column, key) as display:
        return run_all(plan, launcher, display, command)


def _raise_failures(states: list[State]) -> None:
    failed = [state for state in states if state.status is Status.FAILED]
    for state in failed:
        print(f"\n{state.run.title} has failed; {state.reason}", file=sys.stderr)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(states)} runs have failed; the same command tries them again"
        )
