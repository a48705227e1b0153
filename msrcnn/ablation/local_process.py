"""The process of a local job: calls a function that :mod:`.local_jobs` has pickled."""

import sys
from pathlib import Path

import cloudpickle

if __name__ == "__main__":
    cloudpickle.loads(Path(sys.argv[1]).read_bytes())()
