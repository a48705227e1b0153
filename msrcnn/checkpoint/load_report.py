"""Reports what happened to each tensor of a checkpoint: loaded, newly initialized or ignored.

Detectron2 only warns about a tensor whose shape differs from the model's, and skips it. That is
right for the output layers when the number of classes changes, but not for a backbone. Here the
first case is reported, and the second raises an error.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import UserError, first_of
from ..escaping import printable
from .class_layers import CLASS_LAYERS, CLASSIFIER, MASKIOU_HEAD, Outputs

# By name prefix; the longest matching prefix decides. In the order of the report.
PARTS = {
    "backbone.": "backbone",
    "backbone.fpn_": "FPN",
    "proposal_generator.": "RPN",
    "roi_heads.res5.": "res5",  # of a C4 model, shared by the heads
    "roi_heads.box_": "box head",
    "roi_heads.mask_head.": "mask head",
    f"{MASKIOU_HEAD}.": "MaskIoU head",
    "": "others",
}
ANCHOR_LAYERS = {
    "proposal_generator.rpn_head.objectness_logits": Outputs(1),
    "proposal_generator.rpn_head.anchor_deltas": Outputs(4),
}
CASCADE_STAGE = re.compile(r"(?<=^roi_heads\.box_predictor)\.\d(?=\.)")
# With MODEL.ROI_MASKIOU_HEAD.INPUT "all_masks", its input has one mask per class.
MASKIOU_INPUT = f"{MASKIOU_HEAD}.maskiou_fcn1.weight"
# A layer of Detectron2's ResNet, with or without the prefix that it has in the model.
RESNET_WEIGHT = re.compile(r"(.+\.)?(stem|res[2-5])\..+\.weight")
TORCHVISION_WEIGHT = re.compile(r"backbone\.bottom_up\.body\..+\.weight")
OFFSETS = ".conv2_offset."  # of deformable convolutions; missing in weights of a regular ResNet
COUNTERS = ".num_batches_tracked"  # of batch norm; they do not affect the outputs
SHOWN = 4  # number of names in a message; the debug log has all


class Mismatch(NamedTuple):
    """A tensor whose shape in the file differs from that in the model."""

    name: str
    in_file: tuple[int, ...]
    in_model: tuple[int, ...]

    def __str__(self) -> str:
        return f"{printable(self.name)} is {self.in_file} in the file, {self.in_model} in the model"


@dataclass(frozen=True)
class LoadReport:
    """What happened to each tensor when weights were loaded. ``str(report)`` is the log message.

    Attributes:
        source: the weights, as the user named them.
        loaded: names of the model's tensors that were loaded.
        fresh: names of the model's tensors that are newly initialized, as the file lacks them.
        remade: names of the model's tensors that are newly initialized because their shape
            depends on the number of classes or anchors, by reason.
        ignored: names of the file's tensors that the model lacks.
    """

    source: str
    loaded: list[str]
    fresh: list[str]
    remade: dict[str, list[str]]
    ignored: list[str]

    @property
    def backbone_gap(self) -> str:
        """Says why the backbone is incomplete, or is empty if it is not.

        An incomplete backbone raises no error, but trains badly.
        """
        fresh = [n for n in self.fresh if _part(n) == "backbone" and OFFSETS not in n]
        if any(name.endswith(".weight") for name in fresh):
            return "the file lacks layers of the backbone"
        if any(RESNET_WEIGHT.fullmatch(name) for name in self.ignored):
            return "the file has layers of a ResNet that the model lacks"
        if any(TORCHVISION_WEIGHT.fullmatch(name) for name in self.ignored):
            return "the file has layers of the backbone that the model lacks"
        return ""

    def __str__(self) -> str:
        left_out = [*self.fresh, *(name for names in self.remade.values() for name in names)]
        in_model = [*self.loaded, *left_out]
        if left_out:
            lines = [
                f"Weights {self.source}: {len(self.loaded)} of {len(in_model)} tensors loaded",
                f"  loaded: {_count_by_part(self.loaded, left_out)}",
            ]
        else:
            lines = [f"Weights {self.source}: all {len(self.loaded)} tensors loaded"]
        if self.fresh:
            lines.append(f"  newly initialized: {_name_by_part(self.fresh, self.loaded)}")
        for reason, names in self.remade.items():
            lines.append(f"  {reason}: {', '.join(_layers(names))} (newly initialized)")
        if self.ignored:
            lines.append(
                f"  in the file, not in the model: {_name_by_part(self.ignored, in_model)}"
            )
        if self.backbone_gap:
            lines.append(
                f"  warning: {self.backbone_gap}; check that MODEL.RESNETS or MODEL.TORCHVISION "
                "matches the file"
            )
        return "\n".join(lines)

    def difference(self) -> str:
        """Says in one line in what way the file is of another model; empty if it is not."""
        every = [*self.loaded, *self.fresh, *(n for names in self.remade.values() for n in names)]
        parts = list(self.remade)
        if self.fresh:
            others = [name for name in every if name not in self.fresh]
            parts.append(f"not in the file: {_name_by_part(self.fresh, others)}")
        if self.ignored:
            parts.append(f"not in the model: {_name_by_part(self.ignored, every)}")
        return "; ".join(parts)

    def details(self) -> str:
        """Returns the names of all tensors that were not loaded."""
        groups = {"newly initialized": self.fresh, **self.remade, "ignored": self.ignored}
        return "\n".join(
            f"{title}: {', '.join(map(printable, names))}"
            for title, names in groups.items()
            if names
        )


def make_report(
    source: str,
    model_names: Iterable[str],
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatches: Sequence[Mismatch],
) -> LoadReport:
    """Builds the report, and checks that the weights are those of the model.

    Args:
        source: the weights, as the user named them.
        model_names: all names of the model's state dict.
        missing: names in the model for which nothing was loaded.
        unexpected: names in the file that the model lacks.
        mismatches: tensors in both, with different shapes. They were not loaded.

    Raises:
        UserError: if a shape differs for another reason than the number of classes or anchors,
            or if no tensor was loaded.
    """
    model_names = list(model_names)
    mismatches = sorted(mismatches, key=lambda mismatch: model_names.index(mismatch.name))
    remade = _remade(mismatches)
    explained = {name for names in remade.values() for name in names}
    wrong = [str(mismatch) for mismatch in mismatches if mismatch.name not in explained]
    if wrong:
        raise UserError(
            f"'{source}' does not fit this model: {first_of(wrong, SHOWN, '; ')}. Set the MODEL "
            "keys of the config to the values the weights were trained with, or choose other "
            "MODEL.WEIGHTS"
        )
    names = [name for name in model_names if not name.endswith(COUNTERS)]
    left_out = {*missing, *explained}
    loaded = [name for name in names if name not in left_out]
    if names and not loaded:
        raise UserError(
            f"no weight in '{source}' fits the model: set MODEL.WEIGHTS to weights of such a model"
        )
    return LoadReport(
        source=source,
        loaded=loaded,
        fresh=[name for name in names if name in left_out - explained],
        remade=remade,
        ignored=sorted(name for name in unexpected if not name.endswith(COUNTERS)),
    )


def _remade(mismatches: Sequence[Mismatch]) -> dict[str, list[str]]:
    """Returns the tensors whose difference in shape is explained, by the reason."""
    class_scores = {CLASSIFIER: CLASS_LAYERS[CLASSIFIER]}
    counts = (_count(mismatch, class_scores) for mismatch in mismatches)
    classes = next((count for count in counts if count), None)
    remade: dict[str, list[str]] = {}
    for mismatch in mismatches:
        if reason := _reason(mismatch, classes):
            remade.setdefault(reason, []).append(mismatch.name)
    return remade


def _reason(mismatch: Mismatch, classes: tuple[float, float] | None) -> str | None:
    """Returns what explains a difference in shape, or ``None`` if nothing does.

    Args:
        mismatch: the tensor.
        classes: the number of classes in file and model, if they differ.
    """
    if anchors := _count(mismatch, ANCHOR_LAYERS):
        return "{:g} anchors per location in the file, {:g} in the model".format(*anchors)
    count = _count(mismatch, CLASS_LAYERS)
    if classes and (count == classes or _sees_all_masks(mismatch, classes)):
        noun = "class" if classes[0] == 1 else "classes"
        return f"{classes[0]:g} {noun} in the file, {classes[1]:g} in the model"
    if count and count[0] == 1:
        return "class-agnostic in the file, class-specific in the model"
    if count and count[1] == 1:
        return "class-specific in the file, class-agnostic in the model"
    return None


def _count(mismatch: Mismatch, layers: Mapping[str, Outputs]) -> tuple[float, float] | None:
    """Returns the number of classes (or anchors) that the shapes in file and model imply.

    ``None`` if the tensor belongs to none of ``layers``, or if more than its outputs differ.
    """
    layer, _, kind = mismatch.name.rpartition(".")
    outputs = layers.get(CASCADE_STAGE.sub("", layer))
    if outputs is None or kind not in ("weight", "bias"):
        return None
    if mismatch.in_file[1:] != mismatch.in_model[1:]:
        return None
    in_file, in_model = mismatch.in_file[0], mismatch.in_model[0]
    return (
        (in_file - outputs.background) / outputs.each,
        (in_model - outputs.background) / outputs.each,
    )


def _sees_all_masks(mismatch: Mismatch, classes: tuple[float, float]) -> bool:
    """Returns whether only the number of input masks differs, by the difference in classes."""
    name, in_file, in_model = mismatch
    return (
        name == MASKIOU_INPUT
        and (in_file[0], *in_file[2:]) == (in_model[0], *in_model[2:])
        and in_file[1] - in_model[1] == classes[0] - classes[1]
    )


def _part(name: str) -> str:
    return PARTS[max((prefix for prefix in PARTS if name.startswith(prefix)), key=len)]


def _group(names: Iterable[str]) -> dict[str, list[str]]:
    """Groups names by part, in the order of ``PARTS``."""
    groups: dict[str, list[str]] = {part: [] for part in PARTS.values()}
    for name in names:
        groups[_part(name)].append(name)
    return {part: group for part, group in groups.items() if group}


def _count_by_part(names: list[str], others: list[str]) -> str:
    rest = _group(others)
    counts = []
    for part, group in _group(names).items():
        total = f" of {len(group) + len(rest[part])}" if part in rest else ""
        counts.append(f"{part} {len(group)}{total}")
    return ", ".join(counts)


def _name_by_part(names: list[str], others: list[str]) -> str:
    """Lists each part as a whole if ``others`` has none of it, or else by layer."""
    named = {*_group(others), "others"}
    return "; ".join(
        first_of(_layers(group), SHOWN) if part in named else f"{part} ({len(group)} tensors)"
        for part, group in _group(names).items()
    )


def _layers(names: Iterable[str]) -> list[str]:
    """Returns the layers of tensors, by their name without ``roi_heads.``."""
    layers = (name.rpartition(".")[0] or name for name in names)
    return list(dict.fromkeys(printable(layer.removeprefix("roi_heads.")) for layer in layers))
