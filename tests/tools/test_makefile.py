"""``make help`` lists the targets."""

import re
import subprocess

from conftest import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()


def test_help_lists_every_target():
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^make ([a-z-]+(?:, [a-z-]+)*)\s+\S", done.stdout, re.MULTILINE)
    assert sorted(name for names in listed for name in names.split(", ")) == sorted(phony)
    assert all(len(line) <= 100 for line in done.stdout.splitlines())


def test_targets_named_in_the_documentation_exist():
    targets = set(re.findall(r"^([a-z][a-z -]*):", MAKEFILE, re.MULTILINE))
    targets = {name for names in targets for name in names.split()}
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(page.read_text() for page in pages)
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]+)(?![\w-])", text, re.MULTILINE))
    assert len(named) > 5
    assert named <= targets
