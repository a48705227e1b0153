"""Lists of class names: which belong together, in which order, and how messages show them.

A class is known by its name. Category ids and indices are those of one file or one model, so that
data and models are matched by name.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from .errors import first_of
from .escaping import printable

SHOWN = 6  # names in a message
WIDTH = 40  # characters of a name in a message


def in_id_order(categories: Iterable[dict]) -> list[str]:
    """Returns the names of COCO categories in the order of their ids, which is Detectron2's."""
    return [category["name"] for category in sorted(categories, key=lambda c: c["id"])]


def same_classes(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two lists have the same names, in any order."""
    return sorted(names) == sorted(others)


def spelled_otherwise(names: Iterable[str], others: Iterable[str]) -> str:
    """Says which names differ from others only in their spelling; empty if none do.

    Capital letters, spaces, hyphens, underscores and the encoding of accents are spelling. Names
    that both have are none of them.
    """
    names, others = list(names), list(others)
    known: dict[str, str] = {}
    for other in others:
        known.setdefault(without_spelling(other), other)
    pairs = [(name, known.get(without_spelling(name))) for name in names if name not in others]
    found = [f"{a!a} and {b!a}" for a, b in pairs if b is not None]
    return f"{first_of(found, SHOWN)} differ only in their spelling" if found else ""


def without_spelling(name: str) -> str:
    """Returns what names that a person would take for the same have in common."""
    words = re.split(r"[\s_-]+", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(filter(None, words))


def class_indices(names: Sequence[str], model_names: Sequence[str]) -> list[int | None]:
    """Returns for each name the index of the model's class of that name.

    ``None`` if the model has no such class, or a list has the name twice. Equal lists give 0, 1,
    2, ... in any case.
    """
    if list(names) == list(model_names):
        return list(range(len(names)))
    counts, model_counts = Counter(names), Counter(model_names)
    index = {name: number for number, name in enumerate(model_names) if model_counts[name] == 1}
    return [index.get(name) if counts[name] == 1 else None for name in names]


def arranged(names: Sequence[str], model_names: Sequence[str]) -> list[str]:
    """Puts class names in the order in which a model with as many classes has them.

    A name that the model has keeps its index, so that weights of the model fit the class. The
    others take the indices that are left, in their own order.

    Args:
        names: the names to arrange.
        model_names: names by class index. If their number differs, the order stays as it is: the
            weights do not fit then.
    """
    if len(names) != len(model_names):
        return list(names)
    others = iter([name for name in names if name not in model_names])
    return [name if name in names else next(others) for name in model_names]


def listed(names: Sequence[str]) -> str:
    """Returns the number of classes with their names, such as ``2 classes (cat, dog)``."""
    return f"{len(names)} class{'es' if len(names) != 1 else ''} ({shortened(names)})"


def shortened(names: Sequence[str]) -> str:
    """Returns names in one line, the first few of a long list, each cut if it is long."""
    lines = map(printable, names)
    return first_of([n if len(n) <= WIDTH else f"{n[: WIDTH - 3]}..." for n in lines], SHOWN)


def name_of(label: int, class_names: Sequence[str]) -> str:
    """Returns the name of a class; ``class 5`` if the names are not known."""
    return class_names[label] if label < len(class_names) else f"class {label}"
