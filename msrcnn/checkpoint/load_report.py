"""What became of a checkpoint in a model: loaded, started fresh, re-made, ignored.

Detectron2 leaves out a weight whose shape is not the model's, with a warning. That is what one
wants of the output layers when the number of classes changes, and a disaster in a backbone: here
the first is said, the second is an error.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import UserError, printable

# By prefix, the longest of which counts; in the order of the message.
PARTS = {
    "backbone.": "backbone",
    "backbone.fpn_": "FPN",
    "proposal_generator.": "RPN",
    "roi_heads.res5.": "res5",  # of C4, shared by its heads
    "roi_heads.box_": "box head",
    "roi_heads.mask_head.": "mask head",
    "roi_heads.mask_head.maskiou_head.": "MaskIoU head",
    "": "others",
}
# Output layers, by pattern: how many outputs a class (or anchor) has, and how many there are
# besides, for the background.
CLASS_SCORES = {r"roi_heads\.box_predictor(\.\d)?\.cls_score": (1, 1)}
CLASS_LAYERS = {
    **CLASS_SCORES,
    r"roi_heads\.box_predictor(\.\d)?\.bbox_pred": (4, 0),
    r"roi_heads\.mask_head\.predictor": (1, 0),
    r"roi_heads\.mask_head\.maskiou_head\.maskiou": (1, 0),
}
ANCHOR_LAYERS = {
    r"proposal_generator\.rpn_head\.objectness_logits": (1, 0),
    r"proposal_generator\.rpn_head\.anchor_deltas": (4, 0),
}
# With MODEL.ROI_MASKIOU_HEAD.INPUT all_masks it sees a mask of every class.
MASKIOU_INPUT = "roi_heads.mask_head.maskiou_head.maskiou_fcn1.weight"
# A layer of a ResNet, also by the names of ImageNet weights.
RESNET_WEIGHT = re.compile(r"(.+\.)?(stem|res[2-5])\..+\.weight")
OFFSETS = ".conv2_offset."  # of deformable blocks; weights that are not deformable have none
COUNTERS = ".num_batches_tracked"  # of batch norms, for nothing that is used here
SHOWN = 4  # names in a message; the log has all


class Mismatch(NamedTuple):
    """A tensor of one name and two shapes."""

    name: str
    in_file: tuple[int, ...]
    in_model: tuple[int, ...]

    def __str__(self) -> str:
        return f"{printable(self.name)} is {self.in_file} in the file, {self.in_model} in the model"


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor; names are the model's, of ``ignored`` the file's."""

    source: str
    loaded: list[str]
    fresh: list[str]
    remade: dict[str, list[str]]  # by reason
    ignored: list[str]

    @property
    def backbone_gap(self) -> str:
        """What the backbone lacks, or an empty text: it would train all the same, and badly."""
        fresh = [n for n in self.fresh if _part(n) == "backbone" and OFFSETS not in n]
        if any(name.endswith(".weight") for name in fresh):
            return "the file lacks layers of the backbone"
        if any(RESNET_WEIGHT.fullmatch(name) for name in self.ignored):
            return "the file has layers of a ResNet that the model lacks"
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
            lines.append(f"  start fresh: {_name_by_part(self.fresh, self.loaded)}")
        for reason, names in self.remade.items():
            lines.append(f"  {reason}: {', '.join(_layers(names))} start fresh, the rest is kept")
        if self.ignored:
            lines.append(
                f"  in the file, not in the model: {_name_by_part(self.ignored, in_model)}"
            )
        if self.backbone_gap:
            lines.append(f"  attention: {self.backbone_gap}; is MODEL.RESNETS that of the file?")
        return "\n".join(lines)

    def details(self) -> str:
        """Every name that was not simply loaded."""
        groups = {"start fresh": self.fresh, **self.remade, "ignored": self.ignored}
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
    """Judge what was left out of a checkpoint.

    Args:
        source: the file, for messages.
        model_names: of the model's state dict.
        missing: names in the model that got nothing.
        unexpected: names in the file that nothing was made of.
        mismatches: names in both, of different shapes; they are left out as well.

    Raises:
        UserError: if a shape differs for another reason than the number of classes or anchors,
            or if nothing fits.
    """
    model_names = list(model_names)
    mismatches = sorted(mismatches, key=lambda mismatch: model_names.index(mismatch.name))
    remade = _remade(mismatches)
    explained = {name for names in remade.values() for name in names}
    wrong = [str(mismatch) for mismatch in mismatches if mismatch.name not in explained]
    if wrong:
        raise UserError(
            f"'{source}' is not of this model: {_some(wrong, '; ')}. Set the MODEL keys of the "
            "config to what the weights were trained with, or MODEL.WEIGHTS to others"
        )
    names = [name for name in model_names if not name.endswith(COUNTERS)]
    left_out = {*missing, *explained}
    loaded = [name for name in names if name not in left_out]
    if names and not loaded:
        raise UserError(f"no weight of '{source}' fits the model: is it of another kind?")
    return LoadReport(
        source=source,
        loaded=loaded,
        fresh=[name for name in names if name in left_out - explained],
        remade=remade,
        ignored=sorted(name for name in unexpected if not name.endswith(COUNTERS)),
    )


def _remade(mismatches: Sequence[Mismatch]) -> dict[str, list[str]]:
    """Names of output layers whose shapes differ for a good reason, by the reason."""
    counts = (_count(mismatch, CLASS_SCORES) for mismatch in mismatches)
    classes = next((count for count in counts if count), None)
    remade: dict[str, list[str]] = {}
    for mismatch in mismatches:
        if reason := _reason(mismatch, classes):
            remade.setdefault(reason, []).append(mismatch.name)
    return remade


def _reason(mismatch: Mismatch, classes: tuple[float, float] | None) -> str | None:
    """Why a tensor may have two shapes.

    Args:
        mismatch: the shapes.
        classes: how many classes file and model have, if not the same number.
    """
    if anchors := _count(mismatch, ANCHOR_LAYERS):
        return "{:g} anchors a place in the file, {:g} in the model".format(*anchors)
    count = _count(mismatch, CLASS_LAYERS)
    if classes and (count == classes or _sees_all_masks(mismatch, classes)):
        return "{:g} classes in the file, {:g} in the model".format(*classes)
    if count and count[0] == 1:
        return "class-agnostic in the file, for each class in the model"
    if count and count[1] == 1:
        return "for each class in the file, class-agnostic in the model"
    return None


def _count(mismatch: Mismatch, layers: dict) -> tuple[float, float] | None:
    """Number of classes (or anchors) in file and model, if the tensor is of one of the layers."""
    layer, _, kind = mismatch.name.rpartition(".")
    if kind not in ("weight", "bias") or mismatch.in_file[1:] != mismatch.in_model[1:]:
        return None
    for pattern, (each, besides) in layers.items():
        if re.fullmatch(pattern, layer):
            in_file, in_model = mismatch.in_file[0], mismatch.in_model[0]
            return (in_file - besides) / each, (in_model - besides) / each
    return None


def _sees_all_masks(mismatch: Mismatch, classes: tuple[float, float]) -> bool:
    name, in_file, in_model = mismatch
    return (
        name == MASKIOU_INPUT
        and (in_file[0], *in_file[2:]) == (in_model[0], *in_model[2:])
        and in_file[1] - in_model[1] == classes[0] - classes[1]
    )


def _part(name: str) -> str:
    return PARTS[max((prefix for prefix in PARTS if name.startswith(prefix)), key=len)]


def _group(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by part, in the order of the parts."""
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
    """A part as a whole where none of it is among the others, else its layers."""
    named = {*_group(others), "others"}
    return "; ".join(
        _some(_layers(group)) if part in named else f"{part} ({len(group)} tensors)"
        for part, group in _group(names).items()
    )


def _layers(names: Iterable[str]) -> list[str]:
    """Layers that tensors are of, in short."""
    layers = (name.rpartition(".")[0] or name for name in names)
    return list(dict.fromkeys(printable(layer.removeprefix("roi_heads.")) for layer in layers))


def _some(items: list[str], separator: str = ", ") -> str:
    more = len(items) - SHOWN
    return separator.join([*items[:SHOWN], *([f"and {more} more"] if more > 0 else [])])
