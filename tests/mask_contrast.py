"""Models with random weights whose masks differ from each other, and a measure for that."""

from torch import nn


def with_contrast(model):
    """Lets a model with random weights predict masks that differ: all would be near 0.5."""
    for name, layer in model.named_modules():
        if name.endswith("predictor") and isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight)


def relative_error(found, expected):
    """Returns the error of mask probabilities, on the scale of logits, in units of their spread.

    That of unrelated masks is above 1.
    """
    assert expected.std() > 0.1
    found, expected = found.cpu().logit(eps=1e-6), expected.cpu().logit(eps=1e-6)
    return ((found - expected).norm() / (expected - expected.mean()).norm()).item()
