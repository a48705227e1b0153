"""The clock of the benchmarks that run a model."""

import time

import torch


def seconds(device: torch.device) -> float:
    """Returns the time of this process: on the CPU, without that of other processes."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
