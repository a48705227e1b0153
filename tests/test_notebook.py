"""The notebook in examples/ runs from its first cell to its last."""

import re

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

NOTEBOOK = ROOT / "examples" / "predict_and_rank.ipynb"


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_notebook_is_committed_without_outputs():
    for cell in read().cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_notebook_runs(model_folder, shapes_root):
    notebook = read()
    paths = {
        "weights": model_folder / "model_final.pth",
        "images": shapes_root / "val",
        "annotations": shapes_root / "annotations" / "instances_val.json",
    }
    for name, path in paths.items():  # in place of those of `make demo`
        cell = notebook.cells[1]
        line = f'{name} = Path("{path}")'
        cell.source, number = re.subn(rf"^{name} = .+$", line, cell.source, flags=re.MULTILINE)
        assert number == 1
    place = {"metadata": {"path": NOTEBOOK.parent}}
    NotebookClient(notebook, timeout=120, resources=place).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    assert re.search(r"\d+ detections in 6 images", text)
    assert "rise most" in text
    images = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(images) == 3
