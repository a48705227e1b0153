"""Evaluations to draw: detections made from the truth, evaluated as any other."""

import copy
import dataclasses

import numpy as np
import pytest
from pycocotools.coco import COCO
from stand_ins import index, stand_in

from msrcnn.evaluation import Detections, evaluate_detections

SCORES = ("maskiou", "mask_score", "mask_confidence")


@pytest.fixture(scope="session")
def shapes(shapes_root) -> COCO:
    """Small and medium instances of six classes, a crowd, an empty image."""
    return COCO(str(shapes_root / "annotations" / "instances_train.json"))


@pytest.fixture(scope="session")
def evaluation(shapes):
    """Of a model with mask scores."""
    return evaluate_detections(shapes, stand_in(shapes), bootstrap=50)


@pytest.fixture(
    scope="session",
    params=[
        *("mask scoring", "plain Mask R-CNN", "box detector", "no detection", "nothing at all"),
        *("no instance", "no mask annotated", "one class", "1203 classes", "coco", "nuclei"),
    ],
)
def any_evaluation(request, shapes, evaluation):
    """Of everything that there might be to report."""
    full = evaluation.detections
    without_scores = dataclasses.replace(full, **dict.fromkeys(SCORES))
    if request.param == "mask scoring":
        return evaluation
    if request.param == "plain Mask R-CNN":
        return evaluate_detections(shapes, without_scores)
    if request.param == "box detector":
        return evaluate_detections(shapes, dataclasses.replace(without_scores, segmentation=None))
    if request.param == "no detection":
        columns = {f.name: getattr(full, f.name)[:0] for f in dataclasses.fields(full)}
        none = Detections(**{**columns, "images": full.images})
        return evaluate_detections(shapes, none)
    if request.param == "nothing at all":
        return evaluate_detections(shapes, Detections.nothing())
    if request.param in ("coco", "nuclei"):
        return evaluate_detections(*_real(request))
    content = copy.deepcopy(shapes.dataset)
    if request.param == "no instance":
        content["annotations"] = []
    elif request.param == "no mask annotated":
        for annotation in content["annotations"]:
            del annotation["segmentation"]
    elif request.param == "one class":
        content["categories"] = content["categories"][:1]
        for annotation in content["annotations"]:
            annotation["category_id"] = content["categories"][0]["id"]
        full = dataclasses.replace(full, category_id=np.full(len(full), 1))
    elif request.param == "1203 classes":
        last = max(shapes.cats)
        content["categories"] += [
            {"id": last + i, "name": f"other {i}"} for i in range(1, 1204 - len(shapes.cats))
        ]
    return evaluate_detections(index(content), full, bootstrap=10)


def _real(request) -> tuple[COCO, Detections]:
    path = {"coco": "annotations/instances_val2017.json", "nuclei": "val.json"}[request.param]
    ground_truth = COCO(str(request.getfixturevalue(f"{request.param}_root") / path))
    kept = set(sorted(ground_truth.imgs)[:25])
    content = {
        **ground_truth.dataset,
        "images": [image for image in ground_truth.dataset["images"] if image["id"] in kept],
        "annotations": [a for a in ground_truth.dataset["annotations"] if a["image_id"] in kept],
    }
    ground_truth = index(content)
    return ground_truth, stand_in(ground_truth)


@pytest.fixture(scope="session")
def large_evaluation(evaluation):
    """500,000 detections: the same ones again and again."""
    detections, times = evaluation.detections, 500_000 // len(evaluation.detections) + 1
    repeated = {
        name: np.concatenate([getattr(detections, name)] * times)
        for name in ("image_id", "category_id", "bbox", "score", *SCORES)
    }
    return dataclasses.replace(
        evaluation,
        detections=dataclasses.replace(
            detections, segmentation=detections.segmentation * times, **repeated
        ),
        scores={name: np.tile(scores, times) for name, scores in evaluation.scores.items()},
        true_maskiou=type(evaluation.true_maskiou)(
            *(np.tile(column, times) for column in evaluation.true_maskiou)
        ),
    )
