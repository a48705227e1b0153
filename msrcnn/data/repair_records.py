"""Repairs ids and numbers of the records of COCO-format files, as far as nothing is guessed."""

import math
from collections.abc import Callable, Hashable
from typing import Any

from ..escaping import shown
from .coco_schema import KINDS, LARGEST_ID

Note = Callable[[str], None]  # takes the description of a change
WHOLE = {
    "images": ("width", "height"),
    "categories": (),
    "annotations": ("iscrowd",),
}
REFERENCES = {"image_id": "images", "category_id": "categories"}


def repair_records(content: dict, note: Note) -> None:
    """Fixes ids and numbers in place: texts become numbers, and ids whole numbers used once.

    Args:
        content: a COCO-format dict with lists of dicts.
        note: called for every change.
    """
    for kind, keys in WHOLE.items():
        for index, record in enumerate(content.get(kind, [])):
            for key in keys:
                if key in record:
                    _set(record, key, _whole(record[key]), _title(kind, record, index), note)
    for index, category in enumerate(content["categories"]):
        name = category.get("name")
        if isinstance(name, int | float) and not isinstance(name, bool):
            _set(category, "name", str(name), _title("categories", category, index), note)
    for index, annotation in enumerate(content.get("annotations", [])):
        title = _title("annotations", annotation, index)
        for key in ("bbox", "segmentation", "area"):
            if key in annotation and not isinstance(annotation[key], dict):
                _set(annotation, key, _numbers(annotation[key]), title, note)
        if "iscrowd" not in annotation:
            annotation["iscrowd"] = 0
            note(f"{title}: iscrowd is 0")
    for kind in KINDS:
        _fix_ids(content, kind, note)


def _fix_ids(content: dict, kind: str, note: Note) -> None:
    """Gives every record a whole number as its id, and changes the annotations with it.

    Images or categories that share an id still do afterwards: which of them an annotation means
    would be a guess.
    """
    records = content.get(kind, [])
    new = {}
    without = sum(record.get("id") is None for record in records)
    taken = {record["id"] for record in records if is_id(record.get("id"))}
    following = max(taken, default=0) + 1
    used = set()
    for index, record in enumerate(records):
        old = record.get("id")
        wanted = _whole(old)
        if old is not None and kind != "annotations" and _key(old) in new:
            wanted = new[_key(old)]
        elif (
            not is_id(wanted)
            or (wanted in taken and not is_id(old))
            or (wanted in used and kind == "annotations")  # to which nothing refers
        ):
            wanted, following = following, following + 1
        _set(record, "id", wanted, _title(kind, record, index), note)
        taken.add(wanted)
        used.add(wanted)
        new.setdefault(_key(old), wanted)
    if without > 1:
        del new[_key(None)]  # null is the id of none of them
    for reference in (key for key, of in REFERENCES.items() if of == kind):
        for index, annotation in enumerate(content.get("annotations", [])):
            if reference in annotation:
                old = annotation[reference]
                wanted = new.get(_key(old), new.get(_key(_whole(old)), old))
                title = _title("annotations", annotation, index)
                _set(annotation, reference, wanted, title, note)


def _set(record: dict, key: str, value: Any, title: str, note: Note) -> None:
    if repr(record.get(key)) != repr(value):
        note(f"{title}: {key} {shown(record.get(key))} is {shown(value)} now")
        record[key] = value


def _title(kind: str, record: dict, index: int) -> str:
    return f"{KINDS[kind]} {shown(record['id']) if 'id' in record else f'at index {index}'}"


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number of a size that a float can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_ID


def is_id(value: Any) -> bool:
    return is_whole(value) and value >= 0


def _key(value: Any) -> Hashable:
    return type(value).__name__, repr(value)


def _number(value: Any) -> Any:
    """Returns the number that a text says; anything else as it is."""
    if not isinstance(value, str):
        return value
    for parse in (int, float):
        try:
            return parse(value)
        except ValueError:
            continue
    return value


def _whole(value: Any) -> Any:
    number = _number(value)
    if isinstance(number, bool):
        return int(number)
    if isinstance(number, float) and math.isfinite(number) and number == int(number):
        return int(number)
    return number


def _numbers(value: Any) -> Any:
    """Returns nested lists with numbers instead of texts."""
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return _number(value)
