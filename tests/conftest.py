"""Fixtures shared by all tests."""

import json
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from hypothesis import settings
from pycocotools.coco import COCO
from stand_ins import CASES, first_images, repeated, stand_in

from msrcnn import get_config
from msrcnn.checkpoint import safe_load
from msrcnn.cli import main
from msrcnn.data.shapes import make_split
from msrcnn.evaluation import Evaluation, EvaluationSettings, bootstrap, evaluate_detections

ROOT = Path(__file__).parent.parent


def pytest_configure():
    """Divides the CPU cores among the processes of pytest-xdist and their subprocesses.

    Examples of hypothesis have no time limit: the machine may be busy. Continuous integration
    takes the same examples each time.
    """
    settings.register_profile("busy", deadline=None, derandomize="CI" in os.environ)
    settings.load_profile("busy")
    processes = int(os.getenv("PYTEST_XDIST_WORKER_COUNT", "1"))
    threads = max((os.cpu_count() or 1) // processes, 1)
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    bootstrap.MIN_IMAGES = 6  # the datasets of the tests are small
    # Older versions of PyTorch are allowed, but refuse .pth files without --trust-weights.
    safe_load.SAFE_TORCH_VERSION = min(safe_load.SAFE_TORCH_VERSION, torch.__version__)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Skips comparisons with parts of Detectron2 that it only has if it was compiled."""
    try:
        return (yield)
    except ImportError as error:
        if "detectron2._C" not in str(error):
            raise
        pytest.skip("Detectron2 is installed without its native code")


@pytest.fixture(autouse=True)
def signal_handlers():
    """Commands that run in this process set handlers, which later tests would pass to processes."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _real_data(name: str) -> Path:
    """Returns a folder of real data; skips the test if it is not available."""
    candidates = [os.getenv("DETECTRON2_DATASETS"), ROOT.parent / "shared" / "data"]
    for candidate in candidates:
        if candidate and (Path(candidate) / name).is_dir():
            return (Path(candidate) / name).resolve()
    pytest.skip(f"no folder '{name}' in $DETECTRON2_DATASETS or ../shared/data")


@pytest.fixture(scope="session")
def coco_root() -> Path:
    """COCO 2017, or part of it, in COCO's folder layout."""
    return _real_data("coco")


@pytest.fixture(scope="session")
def nuclei_root() -> Path:
    """Microscopy images with RLE masks and one class."""
    return _real_data("nuclei")


@pytest.fixture(scope="session")
def animals_root() -> Path:
    """Photos with polygons of seven kinds of animals."""
    return _real_data("animals")


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory) -> Path:
    """The synthetic shapes dataset, 22 images, among them an empty one and one with a crowd."""
    root = tmp_path_factory.mktemp("shapes")
    make_split(root, "train", 12, seed=3)
    make_split(root, "val", 6, seed=3)
    make_split(root, "test", 4, seed=3)
    return root


@pytest.fixture(scope="session")
def evaluation(shapes_root) -> Evaluation:
    """An evaluation of synthetic detections with all scores on the shapes training images."""
    ground_truth = COCO(str(shapes_root / "annotations" / "instances_train.json"))
    return evaluate_detections(
        ground_truth, stand_in(ground_truth), EvaluationSettings(bootstrap=50)
    )


@pytest.fixture(scope="session", params=["mask scoring", *CASES, "coco", "nuclei"])
def any_evaluation(request, evaluation) -> Evaluation:
    """Evaluations of real datasets, and of every special case that a report must handle."""
    if request.param == "mask scoring":
        return evaluation
    if request.param in CASES:
        case = CASES[request.param](evaluation.ground_truth, evaluation.detections)
        return evaluate_detections(*case, EvaluationSettings(bootstrap=10))
    path = {"coco": "annotations/instances_val2017.json", "nuclei": "val.json"}[request.param]
    root = request.getfixturevalue(f"{request.param}_root")
    ground_truth = first_images(COCO(str(root / path)), 25)
    return evaluate_detections(
        ground_truth, stand_in(ground_truth), EvaluationSettings(bootstrap=10)
    )


@pytest.fixture(scope="session")
def large_evaluation(evaluation) -> Evaluation:
    """An evaluation of at least half a million detections."""
    return repeated(evaluation, 500_000)


@pytest.fixture
def tiny_cfg():
    """The smoke config on the CPU, not frozen."""
    cfg = get_config("quick/smoke_ms_rcnn_R_18_FPN.yaml")
    cfg.MODEL.DEVICE = "cpu"
    return cfg


@pytest.fixture
def old_pytorch(monkeypatch):
    """A PyTorch that reads ``.pth`` files only if they are the run's own."""
    monkeypatch.setattr(safe_load, "SAFE_TORCH_VERSION", (99, 0))


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Returns a function that runs a command in this process; its exit status and output."""

    def run_command(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"msrcnn {name}", *map(str, arguments)])
        code = 0
        try:
            main(name)
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run_command


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A folder with a model of random weights and its config, as a training leaves them."""
    folder = tmp_path_factory.mktemp("trained")
    cfg = get_config("quick/smoke_ms_rcnn_R_18_FPN.yaml")
    cfg.MODEL.DEVICE, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = "cpu", 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = 10
    for place, on in ((folder, True), (folder / "plain", False)):
        cfg.MODEL.MASKIOU_ON = on
        torch.manual_seed(0)
        place.mkdir(exist_ok=True)
        DetectionCheckpointer(build_model(cfg), str(place)).save("model_final")
        (place / "config.yaml").write_text(cfg.dump())
    return folder


@pytest.fixture
def build():
    """Returns a function that builds a config's model with fixed random weights."""

    def build(cfg):
        torch.manual_seed(0)
        return build_model(cfg)

    return build


@pytest.fixture
def storage():
    with EventStorage() as storage:
        yield storage


@pytest.fixture(params=["shapes", "coco", "nuclei"])
def ground_truth(request):
    """Annotations of shapes, COCO (polygons, crowds) and microscopy (RLE, many instances)."""
    paths = {
        "shapes": ("shapes_root", "annotations/instances_train.json"),
        "coco": ("coco_root", "annotations/instances_val2017.json"),
        "nuclei": ("nuclei_root", "val.json"),
    }
    fixture, path = paths[request.param]
    content = json.loads((request.getfixturevalue(fixture) / path).read_text())
    if request.param == "nuclei":
        content["images"] = content["images"][:12]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco


@pytest.fixture
def without_data(monkeypatch):
    """Disables the check of a config's datasets."""
    monkeypatch.setattr("msrcnn.engine.prepare.check_data", lambda cfg, splits: None)
    monkeypatch.setattr("msrcnn.ablation.plan.checked_dataset", lambda name: mock.Mock())
