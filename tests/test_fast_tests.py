"""``tests/fast.txt`` lists the files of ``make test-fast``, by the rule in CONTRIBUTING.md."""

import re

import pytest
from conftest import ROOT

FILES = (ROOT / "tests" / "fast.txt").read_text().split()
# What starts processes, and the fixture that saves models.
SLOW = r"\b(subprocess\.run\(|Popen|run_script|launch_processes|model_folder)"
WITHOUT_TESTS = {"commands", "prediction"}  # their tests need a model


def test_every_package_has_fast_tests():
    packages = {path.parent.name for path in (ROOT / "msrcnn").glob("*/__init__.py")}
    tested = {file.split("/")[1] for file in FILES}
    assert packages - tested <= WITHOUT_TESTS
    assert sorted(set(FILES)) == FILES


@pytest.mark.parametrize("file", FILES)
def test_fast_tests_start_no_processes(file):
    assert re.search(SLOW, (ROOT / file).read_text()) is None
