"""Times several ways to do the same in turn, so that noise on the machine affects all of them."""

import time
from collections.abc import Callable

import numpy as np
import torch
from tqdm import trange

WARM_UP = 2  # repeats that are not measured


def now(device: torch.device) -> float:
    """Returns the time of this process: on the CPU, without that of other processes."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measure_in_turn(
    ways: dict[str, Callable[[int], object]], device: torch.device, repeats: int
) -> dict[str, list[float]]:
    """Runs every way once per repeat.

    Args:
        ways: what to run, by name, called with the number of the repeat. The order alternates, so
            that none is always the first.
        device: where they run; on the CPU, only the time of this process counts.
        repeats: number of measured repeats.

    Returns:
        The seconds of each repeat, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in trange(-WARM_UP, repeats, unit="repeat", leave=False):
        order = list(ways.items())
        for name, run in order if repeat % 2 else order[::-1]:
            start = now(device)
            run(repeat)
            taken = now(device) - start
            if repeat >= 0:
                seconds[name].append(taken)
    return seconds


def allocated_mib(device: torch.device) -> float:
    """Returns the GPU memory in MiB that is in use; 0 on the CPU."""
    return 0.0 if device.type == "cpu" else torch.cuda.memory_allocated() / 2**20


def peak_mib(ways: dict[str, Callable[[int], object]], device: torch.device) -> dict[str, float]:
    """Returns the largest GPU memory in MiB while each way runs; nothing on the CPU."""
    found: dict[str, float] = {}
    if device.type == "cpu":
        return found
    for name, run in ways.items():
        torch.cuda.reset_peak_memory_stats()
        run(0)
        found[name] = torch.cuda.max_memory_allocated() / 2**20
    return found


def ratio(seconds: dict[str, list[float]], name: str, other: str) -> dict[str, float]:
    """Returns how many times as long one way takes as another.

    Returns:
        The ``median`` of the ratios of all repeats, and their quartiles ``low`` and ``high``.
    """
    ratios = [a / b for a, b in zip(seconds[name], seconds[other], strict=True)]
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
    return {"median": median, "low": low, "high": high}


def text(found: dict[str, float]) -> str:
    """Formats a result of :func:`ratio`."""
    return f"{found['median']:.3g} ({found['low']:.3g} to {found['high']:.3g})"
