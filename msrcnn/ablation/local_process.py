"""The process of a local job: calls a function that :mod:`.local_jobs` has pickled."""

import sys
from pathlib import Path

import cloudpickle

from ..error_report import report_errors

if __name__ == "__main__":
    report_errors(cloudpickle.loads(Path(sys.argv[1]).read_bytes()))
