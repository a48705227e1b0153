"""The small synthetic dataset with other category ids, names, or fewer classes."""

import json
from collections.abc import Sequence
from pathlib import Path

from msrcnn.data.shapes import CATEGORIES

NAMES = list(CATEGORIES)  # in the order of their ids


def with_ids(content: dict, ids: Sequence[int]) -> dict:
    """Gives the categories of a dataset, in the order of their ids, other ids."""
    old = sorted(category["id"] for category in content["categories"])
    new = dict(zip(old, ids))
    categories = [{**each, "id": new[each["id"]]} for each in content["categories"]]
    annotations = [
        {**each, "category_id": new[each["category_id"]]} for each in content["annotations"]
    ]
    return {**content, "categories": categories, "annotations": annotations}


def with_names(content: dict, names: dict[str, str]) -> dict:
    """Renames categories."""
    categories = [
        {**each, "name": names.get(each["name"], each["name"])} for each in content["categories"]
    ]
    return {**content, "categories": categories}


def only(content: dict, names: Sequence[str]) -> dict:
    """Keeps some categories and their annotations."""
    categories = [each for each in content["categories"] if each["name"] in names]
    kept = {each["id"] for each in categories}
    annotations = [each for each in content["annotations"] if each["category_id"] in kept]
    return {**content, "categories": categories, "annotations": annotations}


def read(root: Path, split: str = "val") -> dict:
    """Reads the annotations of the dataset."""
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


def write(content: dict, path: Path, root: Path, split: str = "val") -> str:
    """Writes annotations, and returns them with the images as the value of a flag."""
    path.write_text(json.dumps(content))
    return f"{path}:{root / split}"
