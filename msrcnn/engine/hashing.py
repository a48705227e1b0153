"""Hashes that name what a result depends on."""

import hashlib
import json


def json_digest(content: object) -> str:
    """Returns the SHA-256 of JSON-serializable content; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
