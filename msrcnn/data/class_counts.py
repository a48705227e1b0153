"""How often each class of a dataset is annotated."""

from collections import Counter


def class_counts(content: dict) -> list[tuple[dict, int]]:
    """Returns the categories with their number of annotations, the rarest first.

    A misspelled class is a rare one.

    Args:
        content: the content of a COCO-format file without errors.
    """
    number = Counter(each["category_id"] for each in content.get("annotations", []))
    counts = [(each, number[each["id"]]) for each in content["categories"]]
    return sorted(counts, key=lambda pair: (pair[1], pair[0]["name"]))
