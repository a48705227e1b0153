"""Classes of models and data are matched by name, and other names are one error."""

import json

import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from other_classes import NAMES, only, read, with_ids, with_names, write
from pycocotools.coco import COCO
from torch import nn

from msrcnn.checkpoint import load_class_names, write_weights
from msrcnn.engine import Trainer, prepare_config, prepare_model_config, start_run
from msrcnn.errors import UserError

SMOKE = "quick/smoke_ms_rcnn_R_18_FPN.yaml"
ORDER = [*NAMES[2:], *NAMES[:2]]  # of the model
IDS = [30, 2, 17, 1, 5, 4]
BOTH = ("TRAIN", "TEST")


@pytest.fixture
def data(shapes_root, tmp_path):
    """Returns a function that writes a variant of the dataset and returns the flag."""
    content = read(shapes_root)

    def data(name, change=lambda content: content):
        return [write(change(content), tmp_path / f"{name}.json", shapes_root)]

    return data


@pytest.fixture
def weights(tmp_path):
    """Weights with the names of their classes, in an order of their own."""
    return str(write_weights(tmp_path / "w.pth", {"w": torch.zeros(1)}, ORDER))


@pytest.fixture
def unnamed(tmp_path):
    """Weights of an older version, without names."""
    torch.save({"model": {"w": torch.zeros(1)}}, tmp_path / "old.pth")
    return str(tmp_path / "old.pth")


def other_ids(content):
    return with_ids(content, IDS)


def renamed(content):
    return with_names(content, {NAMES[0]: "frisbee"})


def prepare(weights="", opts=(), **kwargs):
    return prepare_config(SMOKE, ["MODEL.WEIGHTS", weights, *opts], **kwargs)


def classes(cfg):
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == len(cfg.DATASETS.CLASS_NAMES)
    return list(cfg.DATASETS.CLASS_NAMES)


@pytest.mark.parametrize("keep_classes", [False, True])
def test_data_follow_the_order_of_the_weights(data, weights, keep_classes):
    found = prepare(
        weights,
        train_data=data("other", other_ids),
        val_data=data("same"),
        splits=BOTH,
        keep_classes=keep_classes,
    )
    assert classes(found) == ORDER
    assert classes(prepare(weights, val_data=data("other", other_ids), splits=("TEST",))) == ORDER
    assert classes(prepare(weights)) == ORDER  # to predict, or to export


def test_order_of_the_config_beside_older_weights(data, unnamed, tmp_path):
    cfg = prepare(val_data=data("same"), splits=("TEST",))
    cfg.DATASETS.CLASS_NAMES = ORDER
    (tmp_path / "config.yaml").write_text(cfg.dump())
    for kwargs in ({"splits": ("TEST",)}, {"train_data": data("other", other_ids), "splits": BOTH}):
        opts = ["MODEL.WEIGHTS", unnamed]
        assert classes(prepare_config(tmp_path / "config.yaml", opts, **kwargs)) == ORDER
    found = prepare_model_config(unnamed, str(tmp_path / "config.yaml"))
    assert classes(found) == ORDER


def test_new_model_has_the_order_of_its_data(data):
    assert (
        classes(prepare(train_data=data("a"), val_data=data("b", other_ids), splits=BOTH)) == NAMES
    )
    found = prepare(train_data=[*data("b", other_ids), *data("a")], splits=("TRAIN",))
    by_id = [name for _, name in sorted(zip(IDS, NAMES))]
    assert classes(found) == by_id != NAMES


def test_fine_tuning_on_new_classes(data, weights, caplog):
    """A class with a new name takes the place of the one that is gone."""
    found = prepare(weights, train_data=data("renamed", renamed), splits=("TRAIN",))
    place = ORDER.index(NAMES[0])
    assert classes(found) == [*ORDER[:place], "frisbee", *ORDER[place + 1 :]]
    assert f"The weights have 6 classes ({', '.join(ORDER)}), the training data 6" in caplog.text
    caplog.clear()
    fewer = data("fewer", lambda content: only(content, NAMES[:2]))
    assert classes(prepare(weights, train_data=fewer, splits=("TRAIN",))) == NAMES[:2]
    assert not caplog.text


def test_data_with_some_of_the_classes(data, weights):
    fewer = data("fewer", lambda content: only(content, NAMES[:2]))
    assert classes(prepare(weights, val_data=fewer, splits=("TEST",))) == ORDER
    assert classes(prepare(train_data=data("a"), val_data=fewer, splits=BOTH)) == NAMES


SIX = r"6 classes \(.*\)"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"val_data": "renamed"}, rf"renamed.json' has {SIX}, but the model has {SIX}: .*frisbee"),
        (
            {"train_data": "renamed", "keep_classes": True},
            rf"renamed.json' has {SIX}, but the model has {SIX}: .*frisbee",
        ),
        (
            {"train_data": "same", "val_data": "renamed"},
            rf"renamed.json' has {SIX}, but the model has {SIX}: .*frisbee",
        ),
        (
            {"train_data": "same renamed"},
            rf"same.json' has {SIX}, but '.*renamed.json' has 6 classes \(.*frisbee.*\): train on",
        ),
        (
            {"train_data": "same fewer"},
            rf"same.json' has {SIX}, but '.*fewer.json' has 1 class \(disc\): train on",
        ),
    ],
)
def test_other_names_are_one_error(data, weights, kwargs, message):
    changes = {
        "renamed": renamed,
        "same": lambda content: content,
        "fewer": lambda content: only(content, NAMES[:1]),
    }
    flags = {
        key: [flag for name in value.split() for flag in data(name, changes[name])]
        for key, value in kwargs.items()
        if key != "keep_classes"
    }
    keep = kwargs.get("keep_classes", False)
    splits = BOTH if "train_data" in flags else ("TEST",)
    with pytest.raises(UserError, match=message):
        prepare(weights, **flags, splits=splits, keep_classes=keep)


@pytest.mark.parametrize("name", ["Disc", "disc "])
def test_another_spelling_is_told(data, weights, name, caplog):
    other = data("other", lambda content: with_names(content, {"disc": name}))
    hint = f"; '{name}' and 'disc' differ only in their spelling"
    with pytest.raises(UserError, match=f"the model has no {name}{hint}$"):
        prepare(weights, val_data=other, splits=("TEST",))
    with pytest.raises(UserError, match=f"train on datasets with the same classes{hint}$"):
        prepare(train_data=[*data("same"), *other], splits=("TRAIN",))
    prepare(weights, train_data=other, splits=("TRAIN",))
    assert f"those that they replace{hint}." in caplog.text


def test_weights_of_another_config(weights, data, tmp_path):
    cfg = prepare(val_data=data("renamed", renamed), splits=("TEST",))
    (tmp_path / "other.yaml").write_text(cfg.dump())
    with pytest.raises(UserError, match=r"w.pth' has 6 classes .*CLASS_NAMES of the config has 6"):
        prepare_model_config(weights, str(tmp_path / "other.yaml"))


def test_registered_datasets(without_data, unnamed):
    opts = ["DATASETS.TRAIN", "('coco_2017_train',)", "DATASETS.TEST", "('coco_2017_val',)"]
    number = ["MODEL.ROI_HEADS.NUM_CLASSES", 80]
    assert classes(prepare(opts=[*opts, *number], splits=BOTH))[:2] == ["person", "bicycle"]
    with pytest.raises(UserError, match=r"'coco_2017_train' has 80 .*NUM_CLASSES is 6: set it to"):
        prepare(opts=opts, splits=BOTH)
    # A config of other classes than its datasets: only their numbers can be compared.
    with pytest.raises(
        UserError, match=r"'coco_2017_val' has 80 .* is 6; the names .* are unknown"
    ):
        prepare(unnamed, opts=opts, splits=("TEST",))
    opts[3] = "('lvis_v1_val',)"
    with pytest.raises(UserError, match="'lvis_v1_val' has 1203 .*, but the model has 80 classes"):
        prepare(opts=[*opts, *number], splits=BOTH)


def test_classes_of_unnamed_weights_are_those_of_the_data(data, unnamed):
    """Their number is compared when the weights are loaded."""
    opts = ["DATASETS.TRAIN", "('nowhere',)", "DATASETS.TEST", "()"]
    fewer = data("fewer", lambda content: only(content, NAMES[:2]))
    assert classes(prepare(unnamed, opts, val_data=fewer, splits=("TEST",))) == NAMES[:2]


@pytest.mark.usefixtures("without_data")
def test_saved_predictions_need_no_model(data, tmp_path):
    cfg = prepare(val_data=data("same"), splits=("TEST",))
    (tmp_path / "config.yaml").write_text(cfg.dump())
    flags = {"val_data": data("renamed", renamed), "splits": ("TEST",)}
    assert "frisbee" in classes(prepare_config(tmp_path / "config.yaml", **flags))
    opts = ["DATASETS.TEST", "('coco_2017_val',)"]
    assert classes(prepare_config(tmp_path / "config.yaml", opts, splits=("TEST",))) == NAMES


@pytest.mark.usefixtures("old_pytorch")
def test_resuming_with_other_classes(data, weights, tmp_path):
    run = tmp_path / "run"
    write_weights(run / "model_final.pth", {"w": torch.zeros(1)}, ORDER)
    opts = ["OUTPUT_DIR", str(run)]
    flags = {"train_data": data("other", other_ids), "splits": ("TRAIN",)}
    assert classes(prepare(opts=opts, resume=True, **flags)) == ORDER
    flags["train_data"] = data("renamed", renamed)
    with pytest.raises(UserError, match=r"model_final.pth' has 6 .*frisbee.* in a new OUTPUT_DIR"):
        prepare(opts=opts, resume=True, **flags)
    prepare(opts=opts, **flags)


class PerfectModel(nn.Module):
    """Finds every instance of the dataset; its classes are ``ORDER``."""

    def __init__(self, root):
        super().__init__()
        self.truth = COCO(str(root / "annotations" / "instances_val.json"))

    def forward(self, inputs):
        return [{"instances": self.instances(image)} for image in inputs]

    def instances(self, image):
        annotations = [a for a in self.truth.imgToAnns[image["image_id"]] if not a["iscrowd"]]
        found = Instances((image["height"], image["width"]))
        boxes = torch.tensor([a["bbox"] for a in annotations]).reshape(-1, 4)
        found.pred_boxes = Boxes(BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS))
        found.scores = torch.linspace(1, 0.1, len(annotations))
        names = [self.truth.cats[a["category_id"]]["name"] for a in annotations]
        found.pred_classes = torch.tensor([ORDER.index(name) for name in names], dtype=torch.int64)
        masks = [torch.from_numpy(self.truth.annToMask(a)).bool() for a in annotations]
        found.pred_masks = torch.stack([torch.zeros(found.image_size).bool(), *masks])[1:]
        return found


@pytest.fixture
def no_report(monkeypatch):
    monkeypatch.setattr("msrcnn.engine.evaluators.publish_evaluation", lambda *_, **__: None)


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("name", ["same", "other ids", "fewer"])
def test_evaluation(name, data, weights, shapes_root, tmp_path, caplog):
    """A model that is always right has an AP of 100 on every variant of the dataset."""
    change = {
        "same": lambda content: content,
        "other ids": other_ids,
        "fewer": lambda content: other_ids(only(content, NAMES[:3])),
    }[name]
    flag = data(name, change)
    output = tmp_path / "out"
    opts = ["OUTPUT_DIR", str(output), "MODEL.DEVICE", "cpu", "TEST.BOOTSTRAP", 0]
    cfg = start_run(prepare(weights, opts, val_data=flag, splits=("TEST",)), eval_only=True)
    with caplog.at_level("INFO"):
        results = Trainer.test(cfg, PerfectModel(shapes_root))
    assert results["bbox"]["AP"] == results["segm_box_score"]["AP"] == pytest.approx(100)
    content = json.loads((tmp_path / f"{name}.json").read_text())
    ids = {category["id"] for category in content["categories"]}
    written = json.loads((output / "inference" / "coco_results_segm.json").read_text())
    assert {result["category_id"] for result in written} <= ids
    assert ("detections of the others" in caplog.text) == (name == "fewer")


@pytest.mark.usefixtures("no_report")
def test_several_test_sets(data, weights, shapes_root, tmp_path):
    """Each has its folder, also if the files have the same name."""
    (tmp_path / "b").mkdir()
    flags = [*data("ann"), *data("b/ann", other_ids), *data("third")]
    opts = ["OUTPUT_DIR", str(tmp_path / "out"), "MODEL.DEVICE", "cpu", "TEST.BOOTSTRAP", 0]
    cfg = start_run(prepare(weights, opts, val_data=flags, splits=("TEST",)), eval_only=True)
    results = Trainer.test(cfg, PerfectModel(shapes_root))
    assert [each["bbox"]["AP"] for each in results.values()] == pytest.approx([100] * 3)
    folders = {path.parent.name for path in tmp_path.glob("out/*/evaluation.json")}
    assert folders == {"ann-1", "ann-2", "third"}


def test_names_travel_with_the_checkpoints_of_a_run(data, tmp_path):
    opts = ["OUTPUT_DIR", str(tmp_path / "run"), "MODEL.DEVICE", "cpu"]
    cfg = prepare(opts=opts, train_data=data("a", other_ids), splits=("TRAIN",))
    trainer = Trainer(cfg)
    trainer.checkpointer.save("model_final")
    assert load_class_names(tmp_path / "run" / "model_final.pth") == classes(cfg)


@pytest.mark.parametrize("custom", ["val_data", "train_data"])
def test_a_guess_of_the_classes_is_told(data, unnamed, caplog, custom):
    """Other data may have the classes in another order."""
    kwargs = {"keep_classes": True, "splits": BOTH} if custom == "train_data" else {}
    opts = ["DATASETS.TRAIN", "('nowhere',)"]  # the config's own data would name the classes
    cfg = prepare(unnamed, opts, **{custom: data("b", other_ids)}, **kwargs)
    assert f"'{unnamed}' does not name its classes: they are taken to be those of" in caplog.text
    assert ", ".join(classes(cfg)[:2]) in caplog.text
    caplog.clear()
    prepare(unnamed, ["DATASETS.CLASS_NAMES", str(tuple(ORDER))], val_data=data("c"))
    assert not caplog.text
