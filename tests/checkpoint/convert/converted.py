"""Converts a model the way a user does."""

import torch
from detectron2.modeling import build_model

from msrcnn.checkpoint.convert import convert_checkpoint
from msrcnn.config import get_msrcnn_cfg


def convert_and_load(folder, content, source, **options):
    """Saves, converts and loads the content of a checkpoint; returns config and model."""
    torch.save(content, folder / "theirs.pth")
    convert_checkpoint(folder / "theirs.pth", folder / "ours.pth", source, **options)
    cfg = get_msrcnn_cfg()
    cfg.merge_from_file(str(folder / "ours.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    saved = torch.load(folder / "ours.pth", weights_only=True)
    model.load_state_dict(saved["model"])  # strict: no missing or unexpected keys
    return cfg, model
