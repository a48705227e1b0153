import dataclasses

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from stand_ins import index

from msrcnn.errors import UserError
from msrcnn.evaluation import Detections, save_predictions
from msrcnn.visualization import prediction_grid
from msrcnn.visualization.prediction_grid import MARGIN, TITLE


@pytest.fixture
def shapes(evaluation):
    return evaluation.ground_truth


@pytest.fixture
def grid(shapes, shapes_root):
    def grid(detections, **layout):
        return prediction_grid(shapes, shapes_root / "train", detections, **layout)

    return grid


def test_size_and_content(grid, evaluation):
    picture = grid(evaluation.detections, num_images=4, columns=2, height=100)
    assert picture.height == TITLE + 2 * (100 + MARGIN)
    empty = grid(Detections.nothing(), num_images=4, columns=2, height=100)
    assert empty.size == picture.size
    differs = (np.asarray(empty) != np.asarray(picture)).any(axis=(0, 2))
    # Ground truth on the left of each pair is the same, predictions on the right differ.
    cell = picture.width // 2
    assert not differs[: cell // 2 - MARGIN].any()
    assert differs[cell // 2 : cell].any()


def test_low_scores_are_not_drawn(grid, evaluation):
    layout = {"num_images": 2, "height": 100}
    nothing = grid(Detections.nothing(), **layout)
    assert grid(evaluation.detections, min_score=1.1, **layout) == nothing
    assert grid(evaluation.detections, min_score=0.0, **layout) != nothing


def test_a_score_at_the_limit_is_drawn(grid, evaluation, shapes):
    layout = {"num_images": len(shapes.imgs), "height": 40}
    best = evaluation.detections.score.max()
    drawn = grid(evaluation.detections, min_score=best, **layout)
    assert drawn != grid(Detections.nothing(), **layout)


def test_box_detector(grid, evaluation, shapes):
    boxes = dataclasses.replace(evaluation.detections, segmentation=None, mask_score=None)
    found = grid(boxes, num_images=2)
    assert found != grid(evaluation.detections, num_images=2)
    assert found != grid(Detections.nothing(), num_images=2)


def test_images_with_annotations_come_first(shapes, shapes_root):
    first, *others = sorted(shapes.imgs)
    annotations = [a for a in shapes.dataset["annotations"] if a["image_id"] != first]
    emptied = index({**shapes.dataset, "annotations": annotations})
    nothing = Detections.nothing()
    one, every = (
        prediction_grid(emptied, shapes_root / "train", nothing, num_images=n, columns=1, height=50)
        for n in (1, len(shapes.imgs) + 1)
    )
    assert every.height == TITLE + len(shapes.imgs) * (50 + MARGIN)

    def truth(picture, image_id, row):
        width = round(50 * shapes.imgs[image_id]["width"] / shapes.imgs[image_id]["height"])
        top = TITLE + row * (50 + MARGIN)
        return np.asarray(picture)[top : top + 50, MARGIN : MARGIN + width].astype(int)

    with Image.open(shapes_root / "train" / shapes.imgs[first]["file_name"]) as image:
        expected = truth(every, first, len(others))
        small = np.asarray(image.convert("RGB").resize(expected.shape[1::-1])).astype(int)
    assert abs(small - expected).mean() < 25  # the emptied image comes last, with nothing drawn
    assert truth(one, others[0], 0).shape == truth(every, others[0], 0).shape
    assert (truth(one, others[0], 0) == truth(every, others[0], 0)).all()


def test_command_draws_a_dataset_of_a_python_function(tmp_path, run_command):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    record = {"image_id": 1, "file_name": tmp_path / "a.png", "width": 20, "height": 10}
    DatasetCatalog.register("drawn function", lambda: [{**record, "annotations": []}])
    metadata = MetadataCatalog.get("drawn function").set(thing_classes=["disc"])
    save_predictions(Detections.nothing(), tmp_path / "found.npz")
    output = tmp_path / "new" / "grid.png"
    flags = ("--predictions", tmp_path / "found.npz", "--output", output)
    code, _, err = run_command("draw", "--dataset", "drawn function", *flags)
    metadata.image_root = "s3://bucket/images"
    _, _, refused = run_command("draw", "--dataset", "drawn function", *flags)
    DatasetCatalog.remove("drawn function")
    assert code == 0, err
    with Image.open(output) as picture:
        assert picture.height == TITLE + 360 + MARGIN
    assert "dataset 'drawn function': its image folder is not on a disk" in refused


def test_command_draws_custom_data(shapes_root, tmp_path, run_command):
    annotations = shapes_root / "annotations" / "instances_val.json"
    save_predictions(Detections.nothing(), tmp_path / "found.npz")
    flags = ("--predictions", tmp_path / "found.npz", "--output", tmp_path / "grid.png")
    code, _, err = run_command("draw", "--dataset", f"{annotations}:{shapes_root}/val", *flags)
    assert code == 0, err
    assert (tmp_path / "grid.png").is_file()
    _, _, err = run_command("draw", "--dataset", annotations, *flags)
    assert f"'{annotations}' is a file: give its image folder too, ANN.json:IMAGES" in err
    _, _, err = run_command("draw", "--dataset", f"{annotations}:{tmp_path}/nowhere", *flags)
    assert f"image folder '{tmp_path}/nowhere' does not exist" in err


def test_missing_image_is_named(shapes, tmp_path):
    with pytest.raises(UserError, match="cannot read image"):
        prediction_grid(shapes, tmp_path, Detections.nothing())
