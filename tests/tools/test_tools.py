"""Tests of the scripts in tools/ and datasets/, run in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from exploits import EXPLOITS
from scripts import run_script

SMOKE = "configs/quick/smoke_ms_rcnn_R_18_FPN.yaml"
# The ResNet-18 FPN config of COCO, small enough for a CPU, without weights that must be downloaded.
SMALL_COCO = [
    *("--config-file", "configs/COCO-InstanceSegmentation/ms_rcnn_R_18_FPN_1x.yaml"),
    *("MODEL.WEIGHTS", "", "MODEL.RESNETS.NORM", "GN", "MODEL.FPN.NORM", "GN"),
    *("MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.FPN.OUT_CHANNELS", "64"),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", "64", "MODEL.ROI_MASK_HEAD.CONV_DIM", "32"),
    *("MODEL.ROI_MASKIOU_HEAD.CONV_DIM", "32", "MODEL.ROI_MASKIOU_HEAD.FC_DIM", "64"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "32", "INPUT.MIN_SIZE_TRAIN", "(128,)"),
    *("INPUT.MIN_SIZE_TEST", "128", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "4"),
    *("SOLVER.BASE_LR", "0.002", "SOLVER.STEPS", "()", "DATALOADER.NUM_WORKERS", "0"),
    *("TEST.DETECTIONS_PER_IMAGE", "20", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
]


def tool(name, *arguments, datasets=None):
    if datasets is None:
        return run_script(name, *arguments)
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets)}
    return subprocess.run(
        [sys.executable, str(ROOT / name), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def own_data(root, train="train", val="val"):
    annotations = f"{root}/annotations/instances_"
    return [
        *("--train-data", f"{annotations}{train}.json:{root}/{train}"),
        *("--val-data", f"{annotations}{val}.json:{root}/{val}"),
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shapes_root):
    """The output folder and the process of a smoke run on a custom dataset."""
    output = tmp_path_factory.mktemp("run")
    done = tool(
        *("tools/train_net.py", "--config-file", SMOKE, *own_data(shapes_root)),
        *("OUTPUT_DIR", str(output), "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
    )
    assert done.returncode == 0, done.stderr
    return output, done


@pytest.mark.slow
def test_train_on_custom_data(trained):
    output, done = trained
    evaluation = json.loads((output / "evaluation.json").read_text())
    assert evaluation["images"] == 6
    assert evaluation["segm_mask_score"]["AP"] is not None
    assert "step 4/4" in done.stderr
    assert "mask AP by mask score" in done.stdout
    assert "Custom data: 6 classes, masks as bitmask." in done.stdout


@pytest.mark.slow
def test_eval_net_gives_the_same_for_weights_and_predictions(trained, shapes_root, tmp_path):
    output, _ = trained
    expected = json.loads((output / "evaluation.json").read_text())
    data = own_data(shapes_root)[2:]
    sources = {
        "weights": str(output / "model_final.pth"),
        "predictions": str(output / "inference" / "predictions.npz"),
    }
    for source, path in sources.items():
        done = tool(
            *("tools/eval_net.py", "--config-file", str(output / "config.yaml"), *data),
            *(f"--{source}", path, "--output-dir", str(tmp_path / source)),
        )
        assert done.returncode == 0, done.stderr
        found = json.loads((tmp_path / source / "evaluation.json").read_text())
        # Nobody knows which model made the predictions.
        trained_for = found["maskiou"]["false_positives"]
        assert trained_for == ("ignore" if source == "weights" else None)
        found["maskiou"]["false_positives"] = expected["maskiou"]["false_positives"]
        for key in expected.keys() - {"seconds", "provenance"}:
            assert found[key] == expected[key], (source, key)
        for name in ("per_class.csv", "inference/coco_results_segm.json"):
            assert (tmp_path / source / name).read_bytes() == (output / name).read_bytes()


@pytest.mark.slow
def test_eval_net_compares_prediction_files(trained, shapes_root, tmp_path):
    """Compares ``predictions.npz`` with a COCO result file, which has only the mask score."""
    output, _ = trained
    files = [
        str(output / "inference" / name) for name in ("predictions.npz", "coco_results_segm.json")
    ]
    done = tool(
        *("tools/eval_net.py", "--config-file", str(output / "config.yaml")),
        *(*own_data(shapes_root)[2:], "--output-dir", str(tmp_path)),
        *("--predictions", files[0], "--predictions", files[1], "TEST.BOOTSTRAP", "20"),
    )
    assert done.returncode == 0, done.stderr
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    expected = json.loads((output / "evaluation.json").read_text())
    assert comparison["evaluations"][files[0]]["segm_oracle"] == expected["segm_oracle"]
    # In the COCO result file, the score is the mask score.
    found = comparison["evaluations"][files[1]]["segm_box_score"]
    assert found == expected["segm_mask_score"]
    assert comparison["gains"][files[1]]["AP"] == 0
    assert f"{files[1]}: +0.00 AP over {files[0]}" in done.stdout


def test_predictions_of_another_dataset(shapes_root, tmp_path):
    (tmp_path / "p.json").write_text(
        '[{"image_id": 12345, "category_id": 1, "score": 1, "bbox": [1, 2, 3, 4]}]'
    )
    done = tool(
        *("tools/eval_net.py", "--config-file", SMOKE, *own_data(shapes_root)[2:]),
        *("--predictions", str(tmp_path / "p.json"), "--output-dir", str(tmp_path / "o")),
    )
    assert done.returncode == 1
    assert "detection 0 has image_id 12345" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_draw_predictions(trained, shapes_root, tmp_path):
    output, _ = trained
    folder = tmp_path / "datasets"
    folder.mkdir()
    (folder / "shapes").symlink_to(shapes_root)
    done = tool(
        *("tools/draw_predictions.py", "--dataset", "shapes_val", "--output"),
        *(str(tmp_path / "grid.png"), "--predictions"),
        str(output / "inference" / "predictions.npz"),
        datasets=folder,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_real_coco_trains_and_evaluates(coco_root, tmp_path):
    """Uses ``coco_2017_train`` and ``coco_2017_val`` as registered by Detectron2."""
    done = tool(
        *("tools/train_net.py", *SMALL_COCO, "OUTPUT_DIR", str(tmp_path)),
        datasets=coco_root.parent,
    )
    assert done.returncode == 0, done.stderr
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    images = json.loads((coco_root / "annotations/instances_val2017.json").read_text())["images"]
    assert evaluation["images"] == len(images)
    for key in ("bbox", "segm_box_score", "segm_mask_score"):
        assert evaluation[key]["AP"] is not None
    assert json.loads((tmp_path / "inference" / "coco_results_segm.json").read_text())


@pytest.mark.slow
def test_fine_tuning_reports_loaded_weights_once(trained, shapes_root, tmp_path):
    """Fine-tunes on two of the classes. The console has a summary, the log also the names."""
    output, _ = trained
    data = own_data(shapes_root)
    for split, argument in (("train", 1), ("val", 3)):
        annotations, images = data[argument].split(":")
        content = json.loads(Path(annotations).read_text())
        content["categories"] = content["categories"][:2]
        kept = {category["id"] for category in content["categories"]}
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] in kept]
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
        data[argument] = f"{tmp_path / split}.json:{images}"
    done = tool(
        *("tools/train_net.py", "--config-file", SMOKE, *data, "OUTPUT_DIR", str(tmp_path)),
        *("MODEL.WEIGHTS", str(output / "model_final.pth"), "SOLVER.MAX_ITER", "1"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("6 classes in the file, 2 in the model: box_predictor.cls_score") == 1
    assert done.stdout.count("tensors loaded") == 1
    assert "Saving checkpoint to" in done.stdout
    for words in ("Skip loading parameter", "not found in the checkpoint", "Loading from"):
        assert words not in done.stdout + done.stderr
    assert "roi_heads.mask_head.predictor.weight" not in done.stdout
    assert "roi_heads.mask_head.predictor.weight" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("flag", [[], ["--trust-weights"]])
def test_code_in_weights_runs_only_with_the_flag(flag, shapes_root, tmp_path):
    marker = tmp_path / "it_ran"
    path = tmp_path / "w.pth"
    path.write_bytes(EXPLOITS["reduce.pth"](f"touch {marker}", tmp_path / "beside"))
    done = tool(
        *("tools/eval_net.py", "--config-file", SMOKE, *own_data(shapes_root)[2:], *flag),
        *("--weights", str(path), "--output-dir", str(tmp_path)),
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert error == done.stderr.splitlines()[-1]
    assert marker.exists() == bool(flag)
    rejected = "is refused because it holds more than weights: the name 'posix.system'" in error
    assert rejected == (not flag)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "nowhere.yaml"], "'nowhere.yaml': no such file"),
        (["--config-file", SMOKE, "--train-data", "a:b"], "annotation file 'a' does not exist"),
        (["--config-file", SMOKE, "SOLVER.LR", "1"], "SOLVER.LR"),
    ],
)
def test_error_is_one_line_with_a_non_zero_exit_status(arguments, message, tmp_path):
    done = tool("tools/train_net.py", *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert message in done.stderr.splitlines()[-1]


def test_prepare_shapes(tmp_path):
    output = str(tmp_path / "shapes")
    numbers = ("--train", "2", "--val", "1", "--test", "3")
    done = tool("datasets/prepare_shapes.py", "--output", output, *numbers)
    assert done.returncode == 0, done.stderr
    for split, number in (("train", 2), ("val", 1), ("test", 3)):
        assert f"Wrote {number} images" in done.stdout
        assert len(list((tmp_path / "shapes" / split).iterdir())) == number


def test_prepare_coco_check(tmp_path):
    done = tool("datasets/prepare_coco.py", "--check", "--output", str(tmp_path))
    assert done.returncode == 1
    assert "instances_val2017.json is missing" in done.stderr


@pytest.mark.slow
def test_export_predict_and_evaluate_from_one_file(trained, shapes_root, tmp_path):
    """Only the exported weights are given: the config next to them is found."""
    output, _ = trained
    model = str(tmp_path / "model.safetensors")
    done = tool(
        *("tools/export_model.py", "--config-file", str(output / "config.yaml")),
        *("--weights", str(output / "model_final.pth"), "--output", model),
    )
    assert done.returncode == 0, done.stderr
    (image, other, *_) = sorted((shapes_root / "val").iterdir())
    done = tool(
        *("tools/predict.py", "--weights", model, str(image), str(other)),
        *("--output", str(tmp_path / "drawn"), "--min-score", "0"),
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "drawn").glob("*.png")} == {
        f"{image.stem}.png",
        f"{other.stem}.png",
    }
    assert f"{image}: " in done.stdout
    done = tool(
        *("tools/eval_net.py", "--weights", model, *own_data(shapes_root)[2:]),
        *("--output-dir", str(tmp_path / "evaluated")),
    )
    assert done.returncode == 0, done.stderr
    expected = json.loads((output / "evaluation.json").read_text())
    found = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text())
    for key in expected.keys() - {"seconds", "provenance"}:
        assert found[key] == expected[key], key
    assert found["provenance"]["dataset"] == expected["provenance"]["dataset"]
    assert found["provenance"]["weights"]["path"] == model


def test_predict_needs_a_config(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"")
    done = tool("tools/predict.py", "--weights", str(tmp_path / "w.pth"), "a.jpg", "--output", "o")
    assert done.returncode == 1
    assert "give --config-file" in done.stderr.splitlines()[-1]
