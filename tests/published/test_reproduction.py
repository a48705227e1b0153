import json
import shlex
import statistics

import pytest
from noisy_detections import noisy_detections
from pycocotools.coco import COCO

from msrcnn import get_config
from msrcnn.cli import command_parser
from msrcnn.config import load_config
from msrcnn.config_by_key import differences
from msrcnn.engine import prepare_config
from msrcnn.errors import UserError
from msrcnn.evaluation import (
    EvaluationSettings,
    ap_interval,
    bootstrap,
    evaluate_detections,
    load_predictions,
    save_predictions,
    student_interval,
)
from msrcnn.evaluation.settings import DEFAULT_SETTINGS
from msrcnn.published import compare_with_published, load_published, verdict_table
from msrcnn.published import reproduction as module

CONFIG = "ms_rcnn_R_50_FPN_1x"


@pytest.fixture
def finish(tmp_path, coco_root, monkeypatch):
    """Returns a function that writes what a training leaves that was evaluated on real images."""
    path = coco_root / "annotations" / "instances_val2017.json"
    ground_truth = COCO(str(path))
    monkeypatch.setattr(module, "IMAGES", len(ground_truth.imgs))
    monkeypatch.setattr(module, "load_ground_truth", lambda name: ground_truth)

    def finish(seed=1, config=CONFIG, **settings):
        opts = [item for pair in settings.items() for item in pair]
        cfg = prepare_config(f"COCO-InstanceSegmentation/{config}.yaml", opts)
        cfg.SEED = seed
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        (folder / "config.yaml").write_text(cfg.dump())
        detections = noisy_detections(ground_truth, seed, scores=cfg.MODEL.MASKIOU_ON)
        evaluation = evaluate_detections(
            ground_truth, detections, EvaluationSettings(bootstrap=0)
        ).summary
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
        save_predictions(detections, folder / "inference" / "predictions.npz")
        return folder

    return finish


def evaluation_of(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_one_run_with_an_interval_over_images(finish):
    folder = finish()
    found = compare_with_published([folder])
    assert found["config"] == CONFIG
    assert found["differences"] == {}
    assert found["over"] == "images"
    assert found["gain"] == evaluation_of(folder)["delta"]["AP"]
    published = [each for each in load_published() if each.config == CONFIG]
    assert [row["published"] for row in found["results"]] == [
        value for each in published for value in (each.mask, each.box)
    ]
    ground_truth = module.load_ground_truth("coco_2017_val")
    detections = load_predictions(folder / "inference" / "predictions.npz", ground_truth)
    scores = {"segm": detections.mask_score, "bbox": detections.score}
    for row in found["results"]:
        ranking = {"mask AP": "segm_mask_score", "box AP": "bbox"}[row["metric"]]
        low, high = row["ci95"]
        assert row["AP"] == evaluation_of(folder)[ranking]["AP"]
        assert 0 < low < row["AP"] < high < 100
        kind = {"mask AP": "segm", "box AP": "bbox"}[row["metric"]]
        assert [low, high] == ap_interval(
            *(ground_truth, detections, kind, scores[kind]),
            max_dets=100,
            samples=DEFAULT_SETTINGS.bootstrap,
        )
    assert compare_with_published([folder, folder / ".." / folder.name]) == found  # the same run


def test_no_interval_from_few_images(finish, monkeypatch):
    folder = finish()
    monkeypatch.setattr(bootstrap, "MIN_IMAGES", module.IMAGES + 1)
    found = compare_with_published([folder])
    assert {(row["ci95"], row["verdict"]) for row in found["results"]} == {(None, "unknown")}
    assert " -  " in verdict_table(found)


def test_verdict_is_whether_the_interval_contains_the_published_ap(finish, monkeypatch):
    folder = finish()
    ap = evaluation_of(folder)["segm_mask_score"]["AP"]
    values = {"lower": ap + 40, "reproduced": ap + 0.1, "higher": 0.0}
    monkeypatch.setattr(
        *(module, "load_published"),
        lambda: [module.Published(CONFIG, verdict, value) for verdict, value in values.items()],
    )
    found = compare_with_published([folder])
    assert [row["verdict"] for row in found["results"]] == list(values)
    lines = verdict_table(found).splitlines()
    for line, verdict in zip(lines[4:7], values):
        assert line.split()[-2:] == [verdict, verdict]  # source and verdict
    assert "bootstrap over images" in verdict_table(found)


def test_several_runs_with_an_interval_over_them(finish):
    folders = [finish(seed) for seed in (1, 2, 3)]
    row = compare_with_published(folders)["results"][0]
    aps = [evaluation_of(folder)["segm_mask_score"]["AP"] for folder in folders]
    assert row["AP"] == statistics.fmean(aps)
    assert row["ci95"] == student_interval(aps)
    assert "over runs" in verdict_table(compare_with_published(folders))


def test_box_score_ranks_the_masks_of_a_plain_mask_rcnn(finish):
    folder = finish(config="mask_rcnn_R_50_FPN_1x")
    found = compare_with_published([folder])
    assert found["config"] == "mask_rcnn_R_50_FPN_1x"
    assert found["gain"] is None
    row = found["results"][0]
    assert row["AP"] == evaluation_of(folder)["segm_box_score"]["AP"]
    assert row["ci95"][0] < row["AP"] < row["ci95"][1]


def test_schedule_for_fewer_gpus_is_the_same_training(finish):
    cfg = module._as_trained(
        CONFIG, get_config("COCO-InstanceSegmentation/ms_rcnn_R_50_FPN_1x.yaml")
    )
    assert cfg.SOLVER.MAX_ITER == 90000
    settings = {
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.BASE_LR": 0.0025,
        "SOLVER.MAX_ITER": 720000,
        "SOLVER.STEPS": (480000, 640000),
        "SOLVER.WARMUP_ITERS": 8000,
        "SOLVER.CHECKPOINT_PERIOD": 40000,
    }
    found = compare_with_published([finish(**settings)])
    assert (found["config"], found["differences"]) == (CONFIG, {})


def test_another_training_is_named(finish):
    found = compare_with_published([finish(**{"SOLVER.BASE_LR": 0.01})])
    assert found["config"] == CONFIG
    assert found["differences"] == {"SOLVER.BASE_LR": [0.01, 0.02]}
    assert "SOLVER.BASE_LR: 0.01 instead of 0.02" in verdict_table(found)
    asked = compare_with_published([finish(seed=2)], "ms_rcnn_R_101_FPN_1x")
    assert asked["config"] == "ms_rcnn_R_101_FPN_1x"
    assert asked["differences"]["MODEL.RESNETS.DEPTH"] == [50, 101]


def test_mistakes(finish, tmp_path):
    with pytest.raises(UserError, match="missing.config.yaml does not exist: give the output"):
        compare_with_published([tmp_path / "missing"])
    with pytest.raises(UserError, match="nothing is published for config 'mine'; there is for"):
        compare_with_published([finish()], "mine")
    other = finish(seed=2, **{"SOLVER.BASE_LR": 0.01})
    with pytest.raises(UserError, match="they differ in SOLVER.BASE_LR"):
        compare_with_published([tmp_path / "seed1", other])
    (tmp_path / "seed1" / "inference" / "predictions.npz").unlink()
    with pytest.raises(UserError, match=r"predictions.npz does not exist"):
        compare_with_published([tmp_path / "seed1"])


@pytest.mark.parametrize(("last", "finished"), [(4999, False), (89999, True), (90000, True)])
def test_a_training_that_has_not_finished(finish, last, finished):
    folder = finish()
    found = {**evaluation_of(folder), "provenance": {"iteration": last}}
    (folder / "evaluation.json").write_text(json.dumps(found))
    if finished:
        compare_with_published([folder])
    else:
        with pytest.raises(UserError, match="of iteration 5000 of 90000: finish .* --resume"):
            compare_with_published([folder])


def test_a_training_that_has_stopped_early_is_finished(finish):
    folder = finish(**{"SOLVER.EARLY_STOP": 3})
    found = {**evaluation_of(folder), "provenance": {"iteration": 4999}}
    (folder / "evaluation.json").write_text(json.dumps(found))
    assert compare_with_published([folder])["config"] == CONFIG


@pytest.mark.parametrize(
    ("changes", "lacking"),
    [
        ({"segm_mask_score": None, "delta": {"AP": None}}, "delta.AP, segm_mask_score.AP"),
        ({"bbox": {}}, "bbox.AP"),
        ({"bbox": {"AP": "40"}, "images": None}, "images, bbox.AP"),
    ],
)
def test_an_evaluation_without_a_number_that_is_needed(finish, changes, lacking):
    folder = finish()
    (folder / "evaluation.json").write_text(json.dumps(evaluation_of(folder) | changes))
    with pytest.raises(UserError, match=f"evaluation.json' lacks {lacking}: evaluate the run"):
        compare_with_published([folder])


def test_an_evaluation_that_does_not_name_its_iteration(finish):
    folder = finish()
    (folder / "evaluation.json").write_text(
        json.dumps(evaluation_of(folder) | {"provenance": None})
    )
    assert compare_with_published([folder])["config"] == CONFIG


def test_another_dataset_has_no_published_numbers(finish, monkeypatch):
    folder = finish()
    monkeypatch.setattr(module, "IMAGES", 5000)
    with pytest.raises(UserError, match=r"\d+ images of coco_2017_val; .* on the 5000 images") as e:
        compare_with_published([folder])
    # The config that the command leaves in the folder is that of the training, with its weights.
    _, *words = shlex.split(str(e.value).split("`")[1])
    args = command_parser(words[0], "msrcnn").parse_args(words[1:])
    assert args.eval_only
    assert args.resume
    before = load_config(folder / "config.yaml")
    after = prepare_config(args.config_file, args.opts, resume=True)
    assert differences(before, after, module.MAY_DIFFER) == {}
    assert after.OUTPUT_DIR == str(folder)
    (folder / "evaluation.json").write_text('{"images": 5000, "bbox": {}}')
    with pytest.raises(UserError, match=r"evaluation.json' lacks .*: evaluate the run again"):
        compare_with_published([folder])
    for damaged in ("{", "3.5", "null"):
        (folder / "evaluation.json").write_text(damaged)
        with pytest.raises(UserError, match=r"evaluation.json' is damaged .*: evaluate the run"):
            compare_with_published([folder])
