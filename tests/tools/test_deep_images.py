"""A folder of microscopy images of 16 bits, from the check to predictions."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

IMAGES = 4
RANGE = ("INPUT.VALUE_RANGE", "(0, 65535)")


def make_data(nuclei_root, folder, bits):
    """Writes grey images of 8 or 16 bits, with the same contents, and their annotations."""
    content = json.loads((nuclei_root / "train.json").read_text())
    content["images"] = content["images"][:IMAGES]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    (folder / "images").mkdir(parents=True)
    for image in content["images"]:
        grey = np.asarray(Image.open(nuclei_root / "train" / image["file_name"]).convert("L"))
        image["file_name"] = f"{image['id']}.tif"
        pixels = grey if bits == 8 else grey.astype(np.uint16) * 257
        Image.fromarray(pixels).save(folder / "images" / image["file_name"])
    (folder / "nuclei.json").write_text(json.dumps(content))
    return folder


@pytest.mark.slow
def test_16_bits_give_what_8_bits_give(nuclei_root, tmp_path, run_command):
    """To the last bit: weights, metrics and predictions."""
    folders = {bits: make_data(nuclei_root, tmp_path / str(bits), bits) for bits in (8, 16)}
    results = {}

    def run(*arguments):
        code, out, err = run_command(*arguments)
        return code, out + err

    for bits, folder in folders.items():
        data = f"{folder / 'nuclei.json'}:{folder / 'images'}"
        scale = RANGE if bits == 16 else ()
        out = folder / "out"
        train = [
            *("--config-file", "quick/smoke_ms_rcnn_R_18_FPN.yaml"),
            *("--train-data", data, "--val-data", data),
            *("SOLVER.MAX_ITER", 2, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", out, "SEED", 1),
            *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 10),
        ]
        if bits == 16:
            code, text = run("check", folder / "nuclei.json", folder / "images")
            assert code == 1
            assert "set INPUT.VALUE_RANGE" in text
            code, text = run("train", *train)
            assert code == 1
            assert "set INPUT.VALUE_RANGE" in text.splitlines()[-1]
            check = (folder / "nuclei.json", folder / "images", "--value-range", 0, 65535)
            code, text = run("check", *check)
            assert code == 0, text
        code, text = run("train", *train, *scale)
        assert code == 0, text
        model = ("--weights", out / "model_final.pth")
        evaluate = (*model, "--val-data", data, "--output-dir", folder / "eval")
        code, text = run("eval", "--config-file", out / "config.yaml", *evaluate)
        assert code == 0, text
        found = folder / "found.json"
        code, text = run(
            *("predict", *model, folder / "images", "--output", folder / "drawn"),
            *("--coco", found, "--min-score", 0.1),
        )
        assert code == 0, text
        results[bits] = (
            json.loads((folder / "eval" / "inference" / "coco_results_segm.json").read_text()),
            [a["segmentation"] for a in COCO(str(found)).dataset["annotations"]],
            (folder / "drawn" / "1.png").read_bytes(),
            (folder / "eval" / "report.html").exists(),
        )
    assert len(results[8][0]) > IMAGES
    assert results[8] == results[16]
    shutil.copy(folders[16] / "images" / "1.tif", tmp_path)
    model = ("--weights", folders[8] / "out" / "model_final.pth")
    code, text = run("predict", *model, tmp_path / "1.tif", "--output", tmp_path / "none")
    assert code == 1
    assert "it has pixels of more than 8 bits" in text
