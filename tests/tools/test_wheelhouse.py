"""``make wheelhouse`` collects all wheels but PyTorch's for a machine without internet."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT


def pinned(section: str) -> set[str]:
    """Returns the packages in a section of constraints.txt that are for this Python version."""
    text = (ROOT / "constraints.txt").read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    names = set()
    for line in text.split("\n"):
        name, _, rest = line.partition("==")
        old = sys.version_info < (3, 11)
        if name and ("python_version" not in rest or ('< "3.11"' in rest) == old):
            names.add(name.replace("-", "_").lower())
    return names


@pytest.mark.slow
def test_wheelhouse_has_everything_but_pytorch(tmp_path):
    if subprocess.run(["make", "--question", "setup"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("the installation is not up to date: run make setup")
    done = subprocess.run(
        ["make", "wheelhouse", f"PYTHON={sys.executable}", f"DEST={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    wheels = [path.name for path in tmp_path.iterdir()]
    names = {re.split(r"-\d", wheel)[0].lower() for wheel in wheels}
    assert names == pinned("Runtime") | pinned("Tests") | {"detectron2", "msrcnn"}
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for wheel in wheels:
        assert re.search(rf"-({version}-|py2\.py3-none|py3-none|cp3\d+-abi3)", wheel), wheel
