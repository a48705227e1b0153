"""``constraints-lowest.txt`` has the lowest versions that ``setup.py`` allows."""

import re

import pytest
import setuptools
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def pins(name):
    text = (ROOT / name).read_text()
    found = re.findall(r"^([\w-]+)==([^\s;]+)", text, re.MULTILINE)
    return {canonicalize_name(package): Version(version) for package, version in found}


@pytest.fixture
def requirements(monkeypatch):
    """What setup.py requires, with the tools of the tests."""
    found = {}
    monkeypatch.setattr(setuptools, "setup", found.update)
    code = (ROOT / "setup.py").read_text()
    exec(compile(code, str(ROOT / "setup.py"), "exec"), {"__file__": str(ROOT / "setup.py")})
    return [
        Requirement(each) for each in found["install_requires"] + found["extras_require"]["dev"]
    ]


def test_lowest_versions_are_those_of_setup(requirements):
    lowest = pins("constraints-lowest.txt")
    for requirement in requirements:
        floors = [each.version for each in requirement.specifier if each.operator == ">="]
        assert floors, f"{requirement}: give the lowest version that works"
        pin = lowest[canonicalize_name(requirement.name)]
        release = Version(floors[0]).release
        assert pin.release[: len(release)] == release, f"{requirement}: run make lowest"
        assert pin in requirement.specifier


def test_exact_versions_are_allowed_by_setup(requirements):
    exact = pins("constraints.txt")
    for requirement in requirements:
        assert exact[canonicalize_name(requirement.name)] in requirement.specifier
