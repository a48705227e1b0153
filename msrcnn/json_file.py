"""Reads the JSON files that a run leaves in its folder."""

import json
from pathlib import Path

from .errors import UserError


def read_json_object(path: Path, mend: str) -> dict:
    """Reads a file that holds one JSON object.

    Args:
        path: the file.
        mend: what to do about a file that cannot be read, for the message.

    Raises:
        UserError: if the file cannot be read, is damaged, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror or error}: {mend}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"'{path}' is damaged ({error}): {mend}") from error
    if not isinstance(content, dict):
        raise UserError(f"'{path}' is damaged (it is not a JSON object): {mend}")
    return content
