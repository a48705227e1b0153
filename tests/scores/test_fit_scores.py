"""Mask scores for a trained detector, from its samples to an evaluated checkpoint, at toy size."""

import copy
import json
import shutil
import sys

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from msrcnn.checkpoint import MaskScoringCheckpointer
from msrcnn.checkpoint.class_layers import MASKIOU_HEAD
from msrcnn.config import load_config
from msrcnn.engine import Trainer
from msrcnn.engine.load_model import load_model
from msrcnn.errors import UserError
from msrcnn.evaluation import load_ground_truth
from msrcnn.evaluation.ground_truth import of_images
from msrcnn.evaluation.mask_quality import on_incomplete, true_maskiou
from msrcnn.modeling.mask_scalars import SCALARS
from msrcnn.scores import FIT_DEFAULTS, fit_scores
from msrcnn.scores.cache_key import cache_key, cache_name
from msrcnn.scores.calibration import Calibration
from msrcnn.scores.exponents import Exponents, choose_exponents, choose_free_exponent
from msrcnn.scores.fit import SampleRows, fit_head
from msrcnn.scores.fit_scores import ScoreFit, build_with_fresh_head, draw_images
from msrcnn.scores.sample_cache import SampleCache
from msrcnn.scores.sample_pass import collect_samples
from msrcnn.scores.view_mapper import ViewMapper

PAPER = Exponents()


def settings(cfg, root, output_dir):
    """Points a config at the synthetic shapes dataset, with a fit of a few iterations."""
    names = {}
    for split in ("train", "val"):
        names[split] = f"{split} for scores of {root.name}"
        if names[split] not in DatasetCatalog.list():
            annotations = root / "annotations" / f"instances_{split}.json"
            register_coco_instances(names[split], {}, str(annotations), str(root / split))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (names["train"],), (names["val"],)
    cfg.OUTPUT_DIR, cfg.SEED = str(output_dir), 1
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.02
    cfg.SOLVER.FIT_MAX_ITER, cfg.SOLVER.FIT_BATCH = 6, 32
    cfg.SOLVER.FIT_HELD_OUT, cfg.TEST.BOOTSTRAP = 0.3, 20
    return cfg


@pytest.fixture(scope="module")
def detector(shapes_root, tmp_path_factory):
    """Weights of a Mask R-CNN that has learned for some steps, and its config."""
    folder = tmp_path_factory.mktemp("detector")
    cfg = load_config("quick/smoke_ms_rcnn_R_18_FPN.yaml")
    settings(cfg, shapes_root, folder)
    cfg.MODEL.DEVICE, cfg.MODEL.MASKIOU_ON, cfg.DATASETS.TEST = "cpu", False, ()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR = 60, 4, 0.002
    cfg.SOLVER.CHECKPOINT_PERIOD = 1000
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return folder / "model_final.pth"


@pytest.fixture
def cfg(tiny_cfg, detector, shapes_root, tmp_path):
    tiny_cfg.merge_from_list(list(FIT_DEFAULTS))
    settings(tiny_cfg, shapes_root, tmp_path / "fit")
    tiny_cfg.MODEL.WEIGHTS = str(detector)
    return tiny_cfg


def head_of(path):
    weights = torch.load(path, weights_only=True)["model"]
    return {name: tensor for name, tensor in weights.items() if name.startswith(MASKIOU_HEAD)}


@pytest.mark.slow
def test_fit_and_evaluation(cfg, detector, tmp_path, monkeypatch):
    given = []  # its held-out images have too few masks to calibrate on
    module = sys.modules["msrcnn.scores.fit_scores"]
    monkeypatch.setattr(
        module, "fit_calibration", lambda *both: given.extend(both) or Calibration(2.0, 0.5)
    )
    results = fit_scores(cfg)
    output = tmp_path / "fit"
    evaluation = json.loads((output / "evaluation.json").read_text())
    assert results["segm_mask_score"]["AP"] == evaluation["segm_mask_score"]["AP"]
    assert evaluation["bbox_mask_score"]["AP"] is not None
    assert not (output / "samples").exists()

    # The detector is the same bit for bit, and so is what it finds.
    before = torch.load(detector, weights_only=True)["model"]
    after = torch.load(output / "model_fitted.pth", weights_only=True)["model"]
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert {name for name in after if name not in before} == set(
        head_of(output / "model_fitted.pth")
    )
    plain = cfg.clone()
    plain.MODEL.MASKIOU_ON, plain.OUTPUT_DIR = False, str(tmp_path / "plain")
    expected = Trainer.test(plain, load_model(plain))
    for key in ("bbox", "segm_box_score", "segm_oracle"):
        assert results[key] == expected[key], key

    record = json.loads((output / "fit.json").read_text())
    assert record["samples"] > 20
    assert len(record["held_out_loss"]) > 1
    fitted = load_config(output / "model_fitted.yaml")
    head = fitted.MODEL.ROI_MASKIOU_HEAD
    assert record["exponents"] == {
        "score": head.SCORE_EXPONENT,
        "confidence": head.CONFIDENCE_EXPONENT,
    }
    assert given[0].shape == given[1].shape == (given[0].size,)
    assert record["calibration"] == {"slope": 2.0, "offset": 0.5}
    assert tuple(head.CALIBRATION) == (2.0, 0.5)
    assert fitted.TEST.CONFIDENCE_EXPONENT == record["free_confidence_exponent"]
    assert fitted.MODEL.WEIGHTS == str(output / "model_fitted.pth")


@pytest.mark.slow
def test_processes_collect_the_same_samples_as_one(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr("msrcnn.scores.sample_pass.MIN_IMAGES", 3)
    threads, caches = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            scores = ScoreFit(cfg, tmp_path / f"samples{number}")
            scores.collect()
            caches.append(scores.cache)
    finally:
        torch.set_num_threads(threads)
    one, two = caches
    assert len(one) == len(two) > 20
    for name, values in one.small.items():
        np.testing.assert_array_equal(two.small[name], values)
    everything = np.arange(len(one))
    batches = [cache.batch(everything, torch.device("cpu")) for cache in caches]
    for name, values in batches[0].items():
        np.testing.assert_array_equal(batches[1][name], values)


class Killed(BaseException):
    """Stands in for a signal that ends the process."""


@pytest.mark.slow
def test_interrupted_pass_resumes_with_the_same_head(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr("msrcnn.scores.sample_pass.MIN_IMAGES", 3)
    monkeypatch.setattr("msrcnn.scores.core_processes.MAX_PROCESSES", 1)  # to kill this one
    cfg.DATASETS.TEST = ()
    fit_scores(cfg)
    expected = head_of(tmp_path / "fit" / "model_fitted.pth")
    shutil.rmtree(tmp_path / "fit")

    write, written = SampleCache.write_part, []

    def write_two(self, number, *args):
        if len(written) == 2:
            raise Killed
        written.append(number)
        write(self, number, *args)

    monkeypatch.setattr(SampleCache, "write_part", write_two)
    with pytest.raises(Killed):
        fit_scores(cfg)
    assert not (tmp_path / "fit" / "model_fitted.pth").exists()
    resumed = []
    monkeypatch.setattr(
        SampleCache,
        "write_part",
        lambda self, number, *args: resumed.append(number) or write(self, number, *args),
    )
    fit_scores(cfg, keep_cache=True)
    assert written == [0, 1]
    assert resumed == [2, 3]
    found = head_of(tmp_path / "fit" / "model_fitted.pth")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)

    # A second fit, of another seed, needs no pass.
    cfg.SEED = 2
    cfg.SOLVER.FIT_EXPONENTS = False
    fit_scores(cfg)
    assert resumed == [2, 3]
    other = head_of(tmp_path / "fit" / "model_fitted.pth")
    assert not all(torch.equal(other[name], expected[name]) for name in expected)
    record = json.loads((tmp_path / "fit" / "fit.json").read_text())
    assert record["exponents"] == {"score": 1.0, "confidence": 0.0}
    assert record["held_out_AP"] == {}  # not computed if nothing is chosen


@pytest.mark.slow
def test_mirrored_view(cfg, shapes_root, tmp_path):
    """Detects on mirrored images, and mirrors the detections back."""
    cfg.SOLVER.FIT_VIEWS = 2
    cfg.INPUT.MIN_SIZE_TRAIN = (cfg.INPUT.MIN_SIZE_TEST,)
    cfg.INPUT.MAX_SIZE_TRAIN = cfg.INPUT.MAX_SIZE_TEST
    model = build_with_fresh_head(cfg)
    ground_truth = load_ground_truth(cfg.DATASETS.TRAIN[0])
    images = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
    cache = SampleCache(tmp_path / "samples", {})
    collect_samples(cfg, model, ground_truth, images, cache, max_bytes=2**30)
    view, detections = cache.small["view"], cache.detections
    assert set(view.tolist()) == {0, 1}

    # The same by hand: mirrored files.
    (tmp_path / "mirrored").mkdir()
    for image in images:
        path = tmp_path / "mirrored" / f"{image['image_id']}.png"
        mirrored = Image.open(image["file_name"]).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mirrored.save(path)
        image["file_name"] = str(path)
    cfg.SOLVER.FIT_VIEWS = 1
    by_hand = SampleCache(tmp_path / "by hand", {})
    collect_samples(cfg, model, ground_truth, images, by_hand, max_bytes=2**30)
    rows = np.flatnonzero(view == 1)
    assert len(rows) == len(by_hand) > 20
    assert np.allclose(by_hand.small["scalars"], cache.small["scalars"][rows], atol=0.05)
    for index, row in enumerate(rows.tolist()):
        width = ground_truth.imgs[int(detections.image_id[row])]["width"]
        x, y, w, h = by_hand.detections.bbox[index]
        assert np.allclose(detections.bbox[row], [width - x - w, y, w, h], atol=0.5)
        mask = mask_util.decode(by_hand.detections.segmentation[index])[:, ::-1]
        found = mask_util.decode(detections.segmentation[row])
        assert (mask & found).sum() >= 0.9 * (mask | found).sum()
    true = true_maskiou(ground_truth, detections.take(rows, detections.images))
    assert np.allclose(true.matched, cache.small["target"][rows], equal_nan=True)


def test_views_of_a_pass_are_always_the_same(cfg):
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (64, 80, 96), 200
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice"
    images = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)

    def sizes(view):
        mapper = ViewMapper(cfg, view)
        return [min(mapper(copy.deepcopy(image))["image"].shape[1:]) for image in images]

    assert len(set(sizes(0))) == 1
    assert len(set(sizes(2))) > 1
    assert sizes(2) == sizes(2) != sizes(3)
    assert [ViewMapper(cfg, view).mirrors for view in range(4)] == [False, True, False, True]
    for flip in ("none", "vertical"):  # the detector has seen no picture mirrored horizontally
        cfg.INPUT.RANDOM_FLIP = flip
        assert not ViewMapper(cfg, 1).mirrors


@pytest.mark.slow
def test_held_out_images_are_seen_once(cfg, tmp_path, monkeypatch):
    """Views of held-out images are neither fitted to nor used to choose anything."""
    cfg.SOLVER.FIT_VIEWS, cfg.DATASETS.TEST = 2, ()
    given = []
    module = sys.modules["msrcnn.scores.fit_scores"]  # the package has a function of this name
    fit = module.fit_head

    def spy(head, cache, cfg, fitted, held_out):
        given.append((cache.detections.image_id, cache.small["view"], fitted, held_out))
        return fit(head, cache, cfg, fitted, held_out)

    monkeypatch.setattr(module, "fit_head", spy)
    fit_scores(cfg)
    ((image_id, view, fitted, held_out),) = given
    assert set(view[fitted].tolist()) == {0, 1}
    assert set(view[held_out].tolist()) == {0}
    assert not set(image_id[fitted].tolist()) & set(image_id[held_out].tolist())
    assert not (fitted & held_out).any()


def test_cache_of_other_weights_is_rejected(cfg, detector, tmp_path):
    ground_truth = load_ground_truth(cfg.DATASETS.TRAIN[0])
    model = build_with_fresh_head(cfg)
    key = cache_key(cfg, model, ground_truth)
    SampleCache(tmp_path / "samples", key)
    again = cache_key(cfg, build_with_fresh_head(cfg), ground_truth)
    SampleCache(tmp_path / "samples", again)  # another head makes no difference
    cfg.MODEL.ROI_MASKIOU_HEAD.FC_DIM = 64
    assert cache_key(cfg, build_with_fresh_head(cfg), ground_truth) == key

    with torch.no_grad():
        model.backbone.bottom_up.stem.conv1.weight[0, 0, 0, 0] += 1e-3
    with pytest.raises(UserError, match="was made with other weights: delete"):
        SampleCache(tmp_path / "samples", cache_key(cfg, model, ground_truth))
    cfg.INPUT.MIN_SIZE_TEST = 100
    with pytest.raises(UserError, match="was made with other config: delete"):
        SampleCache(tmp_path / "samples", cache_key(cfg, build_with_fresh_head(cfg), ground_truth))


def test_cache_of_other_images_is_rejected(cfg, shapes_root, tmp_path):
    """Their annotations are the same."""
    (name,), images = cfg.DATASETS.TRAIN, tmp_path / "black"
    model, ground_truth = build_with_fresh_head(cfg), load_ground_truth(name)
    SampleCache(tmp_path / "samples", cache_key(cfg, model, ground_truth))
    shutil.copytree(shapes_root / "train", images)
    for path in images.iterdir():
        Image.new("RGB", (128, 96)).save(path)
    cfg.DATASETS.TRAIN = (f"black images in {tmp_path}",)
    annotations = shapes_root / "annotations" / "instances_train.json"
    register_coco_instances(cfg.DATASETS.TRAIN[0], {}, str(annotations), str(images))
    with pytest.raises(UserError, match="was made with other images: delete"):
        SampleCache(tmp_path / "samples", cache_key(cfg, model, ground_truth))


def test_another_version_of_the_columns_has_its_own_cache(tiny_cfg, monkeypatch):
    """A sweep collects samples again after an update of msrcnn; it does not fail."""
    name = cache_name(tiny_cfg)
    monkeypatch.setattr("msrcnn.scores.cache_key.COLUMNS", ["others"])
    assert cache_name(tiny_cfg) != name


def test_fits_that_can_share_samples_have_the_same_cache(tiny_cfg):
    cfg = tiny_cfg
    name = cache_name(cfg)
    assert name.startswith("concat-")
    cfg.merge_from_list(["SEED", 7, "MODEL.ROI_MASKIOU_HEAD.FC_DIM", 64, "MODEL.WEIGHTS", "x.pth"])
    cfg.merge_from_list(["SOLVER.FIT_MAX_ITER", 9, "MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE", "l2_rank"])
    cfg.merge_from_list(
        ["MODEL.ROI_MASKIOU_HEAD.INPUT", "multiply"]
    )  # of the same feature and mask
    assert cache_name(cfg) == name
    changes = [
        ("MODEL.ROI_MASKIOU_HEAD.INPUT", "all_masks"),
        ("MODEL.ROI_MASKIOU_HEAD.NAME", "MaskIoULiteHead"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.5),
        ("INPUT.MIN_SIZE_TEST", 100),
        ("TEST.DETECTIONS_PER_IMAGE", 3),
        ("SOLVER.FIT_IMAGES", 4),
        ("SEED", 8),  # draws other images
    ]
    names = [name]
    for change in changes:
        cfg.merge_from_list(list(change))
        names.append(cache_name(cfg))
    assert len(set(names)) == len(names)


def test_weights_of_a_joint_head_are_ignored_whatever_their_shape(cfg, build, tmp_path):
    cfg.MODEL.ROI_MASKIOU_HEAD.INPUT_SCALARS = False
    cfg.MODEL.ROI_MASKIOU_HEAD.FC_DIM = 48
    joint = build(cfg)
    MaskScoringCheckpointer(joint, str(tmp_path)).save("joint")
    cfg.MODEL.WEIGHTS = str(tmp_path / "joint.pth")
    cfg.MODEL.ROI_MASKIOU_HEAD.INPUT_SCALARS = True
    model = build_with_fresh_head(cfg)
    head = model.roi_heads.mask_head.maskiou_head
    assert head.fcs[0].in_features == 64 * 7 * 7 + len(SCALARS)
    for name, tensor in joint.state_dict().items():
        if not name.startswith(MASKIOU_HEAD):
            assert torch.equal(model.state_dict()[name], tensor)


def test_only_detections_on_crowds_are_unusable(tiny_cfg, build, shapes_root, tmp_path):
    """A crowd of each class covers the left half of each image, and there is no instance."""
    settings(tiny_cfg, shapes_root, tmp_path)
    tiny_cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    ground_truth = load_ground_truth(tiny_cfg.DATASETS.TRAIN[0])
    images = get_detection_dataset_dicts(tiny_cfg.DATASETS.TRAIN, filter_empty=False)[:2]
    left = {image["image_id"]: (image["height"], image["width"] // 2) for image in images}
    ground_truth.dataset["annotations"] = [
        {
            "id": 1,
            "image_id": image_id,
            "category_id": category_id,
            "iscrowd": 1,
            "segmentation": [[0, 0, width, 0, width, height, 0, height]],
        }
        for image_id, (height, width) in left.items()
        for category_id in ground_truth.cats
    ]
    cache = SampleCache(tmp_path / "samples", {})
    collect_samples(tiny_cfg, build(tiny_cfg).eval(), ground_truth, images, cache, max_bytes=2**30)
    usable = cache.small["usable"]
    assert np.isnan(cache.small["target"]).all()
    assert 0 < usable.sum() < len(usable)
    np.testing.assert_array_equal(usable, ~on_incomplete(ground_truth, cache.detections))


class FakeCache:
    def __init__(self, target, usable, duplicate=None):
        duplicate = np.zeros(len(target), dtype=bool) if duplicate is None else duplicate
        self.small = {"target": target, "usable": usable, "duplicate": duplicate}


@pytest.mark.parametrize("kind", ["zero", "ignore"])
def test_samples_of_an_epoch(tiny_cfg, kind):
    """All matched detections, and with "zero" twice as many others; no crowds, none held out."""
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.FALSE_POSITIVES = kind
    target = np.full(100, np.nan)
    target[:10] = 0.7
    target[10] = 0.0  # matched by its box, but without any overlap of the masks
    usable = np.ones(100, dtype=bool)
    usable[90:] = False
    among = np.ones(100, dtype=bool)
    among[5] = among[50] = False
    rows = SampleRows(FakeCache(target, usable), tiny_cfg, among)
    epoch = rows.epoch(np.random.default_rng(0))
    matched = {0, 1, 2, 3, 4, 6, 7, 8, 9}
    assert matched <= set(epoch.tolist())
    others = set(epoch.tolist()) - matched
    assert len(others) == len(epoch) - 9 == (18 if kind == "zero" else 0)
    assert others <= set(range(11, 90)) - {50}
    again = rows.epoch(np.random.default_rng(1))
    assert (sorted(again) != sorted(epoch)) == (kind == "zero")  # others are drawn each time


def test_duplicates_count_as_false_positives(tiny_cfg):
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.FALSE_POSITIVES = "zero"
    target = np.array([0.9, 0.8, 0.7, np.nan])
    duplicate = np.array([False, True, False, False])
    cache = FakeCache(target, np.ones(4, dtype=bool), duplicate)
    for one_per_instance, expected in ((False, [0, 1, 2]), (True, [0, 2])):
        tiny_cfg.MODEL.ROI_MASKIOU_HEAD.ONE_PER_INSTANCE = one_per_instance
        rows = SampleRows(cache, tiny_cfg, np.ones(4, dtype=bool))
        assert rows.matched.tolist() == expected
        assert sorted([*rows.matched, *rows.false_positives]) == [0, 1, 2, 3]


class TinyHead(torch.nn.Linear):
    """Predicts the MaskIoU of 2 classes from 3 features."""

    def forward(self, features, mask_logits, classes):
        return super().forward(features)


class TinyCache(FakeCache):
    """Samples whose target is their first feature."""

    def __init__(self, target):
        super().__init__(target, np.ones(len(target), dtype=bool), np.arange(len(target)) % 2 == 1)
        self.features = np.nan_to_num(target)[:, None] * [1.0, 0.0, 0.0]

    def batch(self, rows, device):
        target = torch.from_numpy(self.small["target"][rows]).float()
        return {
            "features": torch.from_numpy(self.features[rows]).float(),
            "mask_logits": torch.zeros(len(rows), 1, 4, 4),
            "classes": torch.zeros(len(rows), dtype=torch.int64),
            "target": target,
            "area": torch.full_like(target, 100.0),
            "duplicate": torch.from_numpy(self.small["duplicate"][rows]),
        }

    def batches(self, rows, size, device):
        yield self.batch(rows, device)


@pytest.fixture
def tiny_fit(tiny_cfg):
    """Fits a tiny head to 40 samples; returns the head before, the head after, and the result."""
    tiny_cfg.SOLVER.FIT_MAX_ITER, tiny_cfg.SOLVER.FIT_BATCH = 30, 16
    tiny_cfg.SOLVER.FIT_BASE_LR = 0.1
    tiny_cfg.MODEL.ROI_MASKIOU_HEAD.FALSE_POSITIVES = "zero"

    def fit(held_out, target=None):
        torch.manual_seed(0)
        before = TinyHead(3, 2)
        after = copy.deepcopy(before)
        if target is None:
            target = np.linspace(0.1, 0.9, 40)
        return before, after, fit_head(after, TinyCache(target), tiny_cfg, ~held_out, held_out)

    fit.cfg = tiny_cfg
    return fit


def test_fit_without_held_out_samples_keeps_the_last_head(tiny_fit):
    before, after, result = tiny_fit(np.zeros(40, dtype=bool))
    assert not torch.equal(after.weight, before.weight)
    assert (result.held_out_loss, result.best_iteration) == ({}, 30)


def test_fit_keeps_the_head_with_the_lowest_held_out_loss(tiny_fit):
    held_out = np.arange(40) % 4 == 0
    _, after, result = tiny_fit(held_out)
    assert result.held_out_loss[result.best_iteration] == min(result.held_out_loss.values())
    assert abs(after(torch.tensor([[0.5, 0, 0]]), None, None)[0, 0].item() - 0.5) < 0.2


def test_duplicates_are_fitted_to_a_maskiou_of_zero(tiny_fit):
    """Every second sample is a duplicate, so that the same feature has a target of 0 as often."""
    tiny_fit.cfg.MODEL.ROI_MASKIOU_HEAD.ONE_PER_INSTANCE = True
    _, after, _ = tiny_fit(np.arange(40) % 8 > 5)
    assert after(torch.tensor([[0.6, 0, 0]]), None, None)[0, 0].item() == pytest.approx(
        0.3, abs=0.1
    )


def test_fit_with_all_samples_held_out_is_an_error(tiny_fit):
    with pytest.raises(UserError, match="none of the 0 detections to fit to .*FIT_HELD_OUT"):
        tiny_fit(np.ones(40, dtype=bool))


def test_fit_of_a_head_without_weights_is_an_error(cfg, tmp_path):
    cfg.MODEL.ROI_MASKIOU_HEAD.NAME = "MaskConfidenceHead"
    with pytest.raises(UserError, match="'MaskConfidenceHead' has nothing to fit"):
        fit_scores(cfg)
    assert not (tmp_path / "fit" / "samples").exists()  # before the pass


def test_fit_that_diverges_is_an_error(tiny_fit):
    tiny_fit.cfg.SOLVER.FIT_BASE_LR = 1e30
    with pytest.raises(UserError, match="diverged before iteration .* lower SOLVER.FIT_BASE_LR"):
        tiny_fit(np.arange(40) % 4 == 0)
    with pytest.raises(UserError, match="diverged before iteration 30: lower SOLVER.FIT_BASE_LR"):
        tiny_fit(np.zeros(40, dtype=bool))  # nothing held out to see it from


def test_held_out_images_have_all_of_their_detections(cfg, tmp_path, caplog):
    """AP and duplicates of images that lack detections would be wrong."""
    cfg.TEST.DETECTIONS_PER_IMAGE = 20
    scores = ScoreFit(cfg, tmp_path / "samples")
    size = 2 * (64 * 14 * 14 + 28 * 28)  # bytes of a detection
    images = len(scores._ground_truth.imgs)
    some = 0.9 * cfg.TEST.DETECTIONS_PER_IMAGE * size * images
    with caplog.at_level("INFO", logger="msrcnn.scores.fit_scores"):
        scores.collect(some / 2**30)
    whole, left_out = scores.cache.whole_images, scores.cache.left_out
    assert 0 < len(whole) < images
    assert left_out > 0
    kept = len(scores.cache)
    assert f"The cache holds {kept} of {kept + left_out} detections" in caplog.text
    cfg.SOLVER.FIT_HELD_OUT = 0.99
    held_out = scores._held_out_images()
    assert held_out.tolist() == sorted(whole)
    assert f"all detections of only {len(whole)} images" in caplog.text


def test_a_cache_with_room_holds_out_any_image(cfg, tmp_path):
    scores = ScoreFit(cfg, tmp_path / "samples")
    scores.collect(1.0)
    assert scores.cache.left_out == 0
    number = round(cfg.SOLVER.FIT_HELD_OUT * len(scores._ground_truth.imgs))
    expected = draw_images(scores._ground_truth.imgs, number, cfg.SEED)
    assert scores._held_out_images().tolist() == expected.tolist()


@pytest.mark.parametrize("number", [4, 12, 99])
def test_a_part_of_the_images_is_detected_on(cfg, tmp_path, number):
    """``SOLVER.FIT_IMAGES`` of 12 images."""
    cfg.SOLVER.FIT_IMAGES, cfg.TEST.DETECTIONS_PER_IMAGE = number, 3
    scores = ScoreFit(cfg, tmp_path / "samples")
    everything = load_ground_truth(cfg.DATASETS.TRAIN[0]).imgs
    expected = draw_images(everything, min(number, 12), cfg.SEED).tolist()
    scores.collect(1.0)
    assert sorted(scores.cache.detections.images.tolist()) == expected
    assert set(scores.cache.detections.image_id.tolist()) <= set(expected)
    assert set(scores._held_out_images().tolist()) < set(expected)


def test_images_are_drawn_by_seed(shapes_root):
    from stand_ins import index

    path = shapes_root / "annotations" / "instances_train.json"
    ground_truth = index(json.loads(path.read_text()))
    drawn = draw_images(ground_truth.imgs, 3, seed=1)
    assert len(set(drawn.tolist())) == 3
    assert drawn.tolist() == draw_images(ground_truth.imgs, 3, seed=1).tolist()
    assert drawn.tolist() != draw_images(ground_truth.imgs, 3, seed=2).tolist()
    part = of_images(ground_truth, set(drawn.tolist()))
    assert sorted(image["id"] for image in part["images"]) == drawn.tolist()
    found = {annotation["image_id"] for annotation in part["annotations"]}
    assert found == {a["image_id"] for a in ground_truth.anns.values()} & set(drawn.tolist())


def test_exponents_that_rank_best_are_chosen(shapes_root):
    """The true MaskIoU given as prediction deserves weight; its opposite deserves none."""
    from stand_ins import index, stand_in

    path = shapes_root / "annotations" / "instances_train.json"
    ground_truth = index(json.loads(path.read_text()))
    detections = stand_in(ground_truth)
    true = true_maskiou(ground_truth, detections).best
    chosen, found = choose_exponents(ground_truth, detections, true, 100, PAPER)
    assert chosen.score > 0
    assert found[chosen] == max(found.values())
    chosen, found = choose_exponents(ground_truth, detections, 1 - true, 100, PAPER)
    assert chosen.score == min(pair.score for pair in found)


def test_exponents_that_rank_alike_stay_as_they_were(shapes_root):
    """One detection, or none: every exponent gives the same AP."""
    from stand_ins import index, stand_in

    path = shapes_root / "annotations" / "instances_train.json"
    ground_truth = index(json.loads(path.read_text()))
    detections = stand_in(ground_truth)
    for rows in ([0], []):
        one = detections.take(np.array(rows, dtype=int), detections.images)
        for default in (PAPER, Exponents(1.5, 2.0)):
            chosen, _ = choose_exponents(ground_truth, one, np.ones(len(one)), 100, default)
            assert chosen == default
        assert choose_free_exponent(ground_truth, one, 100, 3.0) == 3.0


def test_no_detection_matches(cfg, build, tmp_path):
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 1.0
    with pytest.raises(UserError, match="none of the 0 detections .* matches an instance"):
        fit_scores(cfg)
