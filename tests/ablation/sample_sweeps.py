"""Small sweeps and results for the tests."""

import json

import yaml

CONTENT = {
    "title": "Sample",
    "base": "quick/smoke_ms_rcnn_R_18_FPN.yaml",
    "seeds": [1, 2, 3],
    "head_only": {"SOLVER.MAX_ITER": 2},
    "report": {"AP": "segm_mask_score/AP", "box": "bbox/AP"},
    "baseline": "concat",
    "variants": {
        "concat": {"label": "(a)", "published": {"AP": 29.3}},
        "multiply": {"set": {"MODEL.ROI_MASKIOU_HEAD.INPUT": "multiply"}},
    },
}


# Settings of `head_only` for fits, beside those of a training on proposals.
FITS = {
    "SOLVER.MAX_ITER": 2,
    "MODEL.ROI_MASKIOU_HEAD.SAMPLES": "detections",
    "SOLVER.FIT_SCORES": True,
    "SOLVER.FIT_EXPONENTS": False,
    "SOLVER.FIT_MAX_ITER": 6,
    "SOLVER.FIT_BATCH": 32,
}
PROPOSALS = {"MODEL.ROI_MASKIOU_HEAD.SAMPLES": "proposals", "SOLVER.FIT_SCORES": False}


def write_sweep(folder, **changes):
    """Writes a sweep file with entries of ``CONTENT`` replaced, or omitted if ``None``."""
    content = {key: value for key, value in {**CONTENT, **changes}.items() if value is not None}
    path = folder / "sample.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def custom_data(shapes_root):
    """Returns the small synthetic dataset as arguments of `make_plan`."""
    return {
        f"{split}_data": [f"{shapes_root}/annotations/instances_{split}.json:{shapes_root}/{split}"]
        for split in ("train", "val")
    }


def finish(run, ap, box=50.0, seconds=0.5, steps=4):
    """Writes what a finished run leaves."""
    evaluation = {
        "bbox": {"AP": box},
        "segm_box_score": {"AP": 40.0},
        "segm_mask_score": None if ap is None else {"AP": ap},
        "segm_mask_confidence": None,
        "segm_oracle_matched": None,
        "segm_oracle": {"AP": 60.0},
        **dict.fromkeys(("maskiou", "box_score", "mask_confidence")),
        "by_iou": {},
        "images": 20,
        "seconds": {"inference": 4.0},
    }
    record = {
        "command": "sample",
        "hardware": "2 CPU cores (sample)",
        "versions": {"python": "3"},
        "evaluation": evaluation,
        "training": {"steps": steps, "seconds_per_step": seconds},
    }
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "per_class.csv").write_text("ranking,category_id,category,instances,AP\n")
    (run.folder / "result.json").write_text(json.dumps(record))
