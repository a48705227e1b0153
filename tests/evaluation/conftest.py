import json

import pytest
from pycocotools.coco import COCO


@pytest.fixture(params=["shapes", "coco", "nuclei"])
def ground_truth(request):
    """Made, COCO's own (polygons, crowds) and microscopy (RLE, hundreds of instances)."""
    paths = {
        "shapes": ("shapes_root", "annotations/instances_train.json"),
        "coco": ("coco_root", "annotations/instances_val2017.json"),
        "nuclei": ("nuclei_root", "val.json"),
    }
    fixture, path = paths[request.param]
    content = json.loads((request.getfixturevalue(fixture) / path).read_text())
    if request.param == "nuclei":
        content["images"] = content["images"][:12]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco
