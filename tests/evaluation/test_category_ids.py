import hypothesis.strategies as st
import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from hypothesis import Phase, given, settings
from noisy_detections import noisy_detections
from other_classes import NAMES, only, read, with_ids, with_names
from pycocotools.coco import COCO
from stand_ins import index, stand_in
from torch import tensor, zeros

from msrcnn.errors import UserError
from msrcnn.evaluation import (
    Detections,
    EvaluationSettings,
    evaluate_detections,
    load_predictions,
    save_predictions,
)
from msrcnn.evaluation.category_ids import ABSENT, category_ids

IDS = st.lists(st.integers(0, 2**40), min_size=6, max_size=6, unique=True)


@pytest.fixture(scope="session")
def content(shapes_root):
    return read(shapes_root)


@pytest.fixture(scope="session")
def expected(content):
    truth = index(content)
    return evaluate_detections(truth, stand_in(truth), EvaluationSettings(bootstrap=0)).summary


def as_classes(detections: Detections, truth: COCO, model: list[str]) -> list[int]:
    """Returns the class of each detection, as a model with these classes predicts it."""
    return [model.index(truth.cats[each]["name"]) for each in detections.category_id.tolist()]


def replaced(detections: Detections, ids: np.ndarray) -> Detections:
    return Detections(**{**vars(detections), "category_id": ids})


@settings(max_examples=12, deadline=None, phases=[Phase.generate])  # shrinking takes minutes
@given(model=st.permutations(NAMES), ids=IDS)
def test_any_order_of_ids_and_names_gives_the_same_metrics(content, expected, model, ids):
    """A model that has the classes in any order, on data that have them under any ids."""
    truth, other = index(content), index(with_ids(content, ids))
    found = stand_in(truth)
    by_class = category_ids(other, "unknown to Detectron2", model)
    moved = replaced(found, by_class[as_classes(found, truth, model)])
    assert [other.cats[each]["name"] for each in by_class] == model
    summary = evaluate_detections(other, moved, EvaluationSettings(bootstrap=0)).summary
    for key in ("bbox", "segm_box_score", "segm_mask_score", "segm_oracle"):
        assert summary[key] == pytest.approx(expected[key]), key
    assert summary["maskiou"]["mae_all"] == pytest.approx(expected["maskiou"]["mae_all"])


@settings(max_examples=12, deadline=None, phases=[Phase.generate])  # shrinking takes minutes
@given(ids=IDS)
def test_saved_predictions_follow_the_names(tmp_path_factory, content, ids):
    truth, other = index(content), index(with_ids(content, ids))
    path = tmp_path_factory.mktemp("p") / "p.npz"
    found = noisy_detections(truth)
    save_predictions(found, path, truth)
    names = [truth.cats[each]["name"] for each in found.category_id]
    loaded = load_predictions(path, other)
    assert [other.cats[each]["name"] for each in loaded.category_id] == names
    assert np.array_equal(loaded.score, found.score)
    assert np.array_equal(load_predictions(path).category_id, found.category_id)


def test_saved_predictions_on_fewer_classes(content, tmp_path, caplog):
    truth = index(content)
    found = noisy_detections(truth)
    save_predictions(found, tmp_path / "p.npz", truth)
    few = index(with_ids(only(content, ["star", "box"]), [8, 9]))
    with caplog.at_level("INFO"):
        loaded = load_predictions(tmp_path / "p.npz", few)
    assert len(loaded) == len(loaded.segmentation) == np.isin(found.category_id, [2, 4]).sum()
    assert set(loaded.category_id) == {8, 9}
    assert np.array_equal(loaded.images, found.images)
    assert "has 2 of the 6 classes" in caplog.text
    other = index(with_names(content, {NAMES[0]: "frisbee"}))
    with pytest.raises(UserError, match=r"are of 6 classes .*, but the dataset has 6 .*frisbee"):
        load_predictions(tmp_path / "p.npz", other)


def test_predictions_of_an_older_version(content, tmp_path):
    found = noisy_detections(index(content))
    save_predictions(found, tmp_path / "p.npz")
    columns = dict(np.load(tmp_path / "p.npz"))
    assert "categories" not in columns
    np.savez(tmp_path / "old.npz", **{**columns, "format": 1})
    other = index(with_names(content, {NAMES[0]: "frisbee"}))
    loaded = load_predictions(tmp_path / "old.npz", other)
    assert np.array_equal(loaded.category_id, found.category_id)


def test_classes_that_the_dataset_lacks(content, caplog):
    truth = index(only(content, NAMES[1:3]))
    with caplog.at_level("INFO"):
        by_class = category_ids(truth, "unknown to Detectron2", NAMES)
    assert by_class.tolist() == [ABSENT, 2, 3, ABSENT, ABSENT, ABSENT]
    assert "has 2 of the model's 6 classes; detections of the others" in caplog.text
    instances = Instances(
        (9, 9), pred_boxes=Boxes(zeros(4, 4)), scores=tensor([0.4, 0.3, 0.2, 0.1])
    )
    instances.pred_classes = tensor([1, 0, 2, 5])
    masks = [{"size": [9, 9], "counts": str(number).encode()} for number in range(4)]
    instances.pred_masks_rle = masks
    found = Detections.from_instances(instances, 7, by_class)
    assert found.category_id.tolist() == [2, 3]
    assert found.score.tolist() == pytest.approx([0.4, 0.2])
    assert list(found.segmentation) == [masks[0], masks[2]]
    assert found.images.tolist() == [7]


def test_names_of_the_metadata_go_first(content):
    """As in LVIS, which has a category with two names."""
    name = "with names of its own"
    MetadataCatalog.get(name).thing_classes = ["one", "two", "three", "four", "five", "six"]
    model = ["six", "five", "four", "three", "two", "one"]
    assert category_ids(index(content), name, model).tolist() == [6, 5, 4, 3, 2, 1]


def test_categories_that_the_model_lacks(content):
    assert category_ids(index(content), "unknown to Detectron2").tolist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(UserError, match=r"has 6 classes .*, but the model predicts 5 classes"):
        category_ids(index(content), "unknown to Detectron2", NAMES[1:])
