"""Hashes that name what a result depends on."""

import hashlib
import json
from collections.abc import Mapping

import torch


def json_digest(content: object) -> str:
    """Returns the SHA-256 of JSON-serializable content; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def weights_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Returns the SHA-256 of tensors and their names, on any device."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
