"""What the documents claim stands in the results that are kept with them."""

import json
import re

import pytest
from conftest import ROOT

from msrcnn.config import CONFIG_ROOT
from msrcnn.evaluation.evaluator import metrics_table

README = (ROOT / "README.md").read_text()


def test_demo_table_is_the_recorded_one():
    result = json.loads((ROOT / "docs" / "results" / "demo.json").read_text())
    assert result["command"] == "make demo"
    for line in metrics_table(result["evaluation"]).splitlines():
        assert line.strip() in README


@pytest.mark.parametrize("path", sorted(set(re.findall(r"configs/[\w/.-]+\.yaml", README))))
def test_configs_named_in_the_readme_exist(path):
    assert (CONFIG_ROOT.parent / path).is_file()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_of_the_readme_lead_somewhere(target):
    assert (ROOT / target).exists()
