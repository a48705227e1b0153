"""The commands of docs/own_data.md, one after the other, on photos with files of labelme."""

import json
import re
import shlex
import shutil

import pytest
from conftest import ROOT
from scripts import run_script

FENCE = re.compile(r"^```\n(.*?)^```", re.DOTALL | re.MULTILINE)
SCRIPTS = {"check": "check_dataset", "train": "train_net", "predict": "predict", "eval": "eval_net"}
SMALLER = {"--epochs": "2", "--batch": "2", "--size": "64"}
QUICK = (
    *("SOLVER.FIT_MAX_ITER", "2", "SOLVER.FIT_BATCH", "8", "SOLVER.FIT_VIEWS", "1"),
    *("DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"),
)
NUMBER = {"train": 6, "val": 2}


def commands():
    text = "".join(FENCE.findall((ROOT / "docs" / "own_data.md").read_text()))
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines()]


def labelled(root, folder):
    """Writes photos with files of labelme, as if they had been drawn by hand."""
    for split, number in NUMBER.items():
        target = folder / "photos" / split
        target.mkdir(parents=True)
        content = json.loads((root / f"{split}.json").read_text())
        names = {each["id"]: each["name"] for each in content["categories"]}
        for image in content["images"][:number]:
            shutil.copy(root / split / image["file_name"], target)
            shapes = [
                {
                    "label": names[a["category_id"]],
                    "points": [polygon[i : i + 2] for i in range(0, len(polygon), 2)],
                    "group_id": a["id"],
                    "shape_type": "polygon",
                }
                for a in content["annotations"]
                if a["image_id"] == image["id"]
                for polygon in a["segmentation"]
            ]
            size = {"imageWidth": image["width"], "imageHeight": image["height"]}
            file = {"version": "5.5.0", "shapes": shapes, "imagePath": image["file_name"], **size}
            (target / image["file_name"]).with_suffix(".json").write_text(json.dumps(file))


@pytest.mark.slow
def test_every_command_runs(tmp_path, animals_root):
    weights = animals_root.parent.parent / "weights" / "mobilenet_v2_imagenet.pth"
    if not weights.is_file():
        pytest.skip(f"no {weights}")
    labelled(animals_root, tmp_path)
    ran = []
    for program, command, *arguments in commands():
        assert program == "msrcnn"
        for index, word in enumerate(arguments[:-1]):
            if command == "train" and word in SMALLER:
                arguments[index + 1] = SMALLER[word]
        if command == "train":
            arguments = ["--weights", str(weights), *arguments, *QUICK]
        done = run_script(f"tools/{SCRIPTS[command]}.py", *arguments, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        ran.append(command)
    assert ran == ["check", "check", "check", "train", "predict", "eval"]
    assert len(list((tmp_path / "drawn").glob("*.png"))) == NUMBER["val"]
    for name in ("check.html", "output/own/report.html", "output/own/model_best.pth"):
        assert (tmp_path / name).is_file()
    found = json.loads((tmp_path / "output/own/evaluation.json").read_text())
    again = json.loads((tmp_path / "output/again/evaluation.json").read_text())
    assert found["images"] == NUMBER["val"]
    assert found["segm_mask_score"] == again["segm_mask_score"]
