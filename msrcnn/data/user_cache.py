"""Small JSON files in the user's cache folder, for results that take long to compute again."""

import hashlib
import json
import logging
import os
from pathlib import Path

import PIL

from ..atomic_file import write_file
from ..errors import UserError
from ..version import __version__

logger = logging.getLogger(__name__)

MADE_WITH = [__version__, PIL.__version__]  # others may have other rules, or accept other images


def read_cache(kind: str, key: str) -> dict | None:
    """Returns what :func:`write_cache` wrote, or ``None`` if there is nothing that can be used.

    Args:
        kind: name of a folder in the cache.
        key: name of what the content describes, such as a path.
    """
    path = _path(kind, key)
    try:
        envelope = json.loads(path.read_text(encoding="utf-8"))
        if envelope["made_with"] == MADE_WITH and envelope["key"] == key:
            return dict(envelope["content"])
    except FileNotFoundError:
        pass
    except Exception as error:  # whatever is in the file: it is written again
        logger.debug("'%s' is not used: %s", path, error)
    return None


def write_cache(kind: str, key: str, content: dict) -> None:
    """Writes content for :func:`read_cache`; without an error if that is not possible.

    Args:
        kind, key: see :func:`read_cache`.
        content: JSON-serializable.
    """
    path = _path(kind, key)
    envelope = {"made_with": MADE_WITH, "key": key, "content": content}
    try:
        write_file(path, json.dumps(envelope, separators=(",", ":")))
    except (UserError, ValueError) as error:
        logger.debug("'%s' is not written: %s", path, error)


def _path(kind: str, key: str) -> Path:
    """``$XDG_CACHE_HOME/msrcnn`` or ``~/.cache/msrcnn``, as desktops have it."""
    root = os.getenv("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Path(root) / "msrcnn" / kind / f"{name}.json"
