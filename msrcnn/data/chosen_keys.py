"""COCO-format content without the keys that a library has no use for, or does not accept."""


def with_keys(content: dict, keys: dict[str, tuple[str, ...]]) -> dict:
    """Returns COCO-format content with chosen keys only, as new records.

    Args:
        content: the content of a file.
        keys: those to keep, for each kind of record.
    """
    return {
        kind: [{key: record[key] for key in chosen if key in record} for record in content[kind]]
        for kind, chosen in keys.items()
        if kind in content
    }
