"""What hotcoco's health check says beyond our rules, for ``msrcnn check``."""

import hotcoco

from .chosen_keys import with_keys
from .finding import Finding

KEYS = {
    "images": ("id", "width", "height"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "bbox", "iscrowd"),
}
OURS = ("bbox_out_of_bounds", "degenerate_bbox", "duplicate_ann_id", "zero_area")
SHOWN = 5  # ids in a message


def health_findings(content: dict) -> list[Finding]:
    """Returns warnings about the quality of annotations, such as instances annotated twice.

    Args:
        content: the content of a COCO-format file without errors.
    """
    content = with_keys(content, KEYS)
    if not content.get("annotations"):
        return []
    return [
        Finding(False, [f"{warning['message']} Ids: {_listed(warning['affected_ids'])}"])
        for warning in hotcoco.COCO(content).healthcheck()["warnings"]
        if warning["layer"] == "Quality" and warning["code"] not in OURS
    ]


def _listed(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:SHOWN])) + (", ..." if len(ids) > SHOWN else "")
