"""Copies of JSON-like content with one value changed."""

import copy


def changed_copy(content, path, value):
    """Returns a copy with the value at a path replaced, or removed if it is ``...``."""
    content = copy.deepcopy(content)
    *keys, last = path
    record = content
    for key in keys:
        record = record[key]
    if value is ...:
        del record[last]
    else:
        record[last] = value
    return content
