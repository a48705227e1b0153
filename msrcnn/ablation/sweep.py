"""Sweep files: what is varied, on what, and what is reported."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..config import CONFIG_ROOT
from ..errors import UserError
from ..evaluation import RANKINGS
from ..evaluation.coco_metrics import METRICS

FULL = "full"  # the protocol that a sweep file gives outside of `quick`
NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")  # becomes a folder's name

# What can be reported: keys of evaluation.json and of tools/benchmark.py cost.
_QUALITY = ("pearson", "spearman", "mae")
REPORTABLE = {
    **dict.fromkeys(("bbox", *RANKINGS), tuple(METRICS)),
    "delta": ("AP",),
    **dict.fromkeys(("maskiou", "box_score", "mask_confidence"), _QUALITY),
    "cost": ("parameters", "multiply_adds"),
}


@dataclass(frozen=True)
class Protocol:
    """How every variant is trained.

    Attributes:
        name: ``"full"``, or its key in the sweep file's ``quick``.
        base: name of the config below ``configs/``, or its path.
        overrides: config keys and values of every variant, a shorter schedule, say.
        seeds: a variant is trained once with each.
        head_only: keys and values that turn the base's schedule into that of the MaskIoU head
            alone; ``None`` if the sweep varies more than the head.
    """

    name: str
    base: str
    overrides: dict
    seeds: tuple[int, ...]
    head_only: dict | None


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        name: letters, digits and ``_ . + -``.
        label: what the table calls it.
        overrides: config keys and values that make it what it is.
        bases: by protocol, the config it has in place of the protocol's base.
        published: numbers to stand beside, by column.
    """

    name: str
    label: str
    overrides: dict
    bases: dict[str, str]
    published: dict[str, float]


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        path: of the file.
        title: of the table.
        baseline: name of the variant that the others are compared with.
        report: keys of ``evaluation.json``, as ``segm_mask_score/AP``, by column heading; the
            first is what variants are compared by.
        published_source: where the published numbers are from.
        protocols: by name, ``"full"`` first, then the quick ones.
        variants: in the table's order.
    """

    path: Path
    title: str
    baseline: str
    report: dict[str, str]
    published_source: str
    protocols: dict[str, Protocol]
    variants: tuple[Variant, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    def protocol(self, name: str | None, *, quick: bool) -> Protocol:
        """The protocol of that name; without one the full or the first quick one.

        Raises:
            UserError: if there is none.
        """
        if name is None:
            names = [each for each in self.protocols if (each != FULL) == quick]
            if not names:
                raise UserError(f"{self.path} has no quick protocol: add it under 'quick'")
            name = names[0]
        if name not in self.protocols:
            raise UserError(f"{self.path} has no protocol '{name}', but {_names(self.protocols)}")
        if quick and name == FULL:
            raise UserError(f"--quick and --protocol {FULL}: only one of them can be meant")
        return self.protocols[name]


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error: a variant would silently be lost."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} is no name: put it in quotes", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key}' stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def find_sweep(name: str) -> Path:
    """The path of a sweep file, given as a path or as a name below ``configs/``.

    Raises:
        UserError: if there is none.
    """
    for path in (Path(name), CONFIG_ROOT / name, CONFIG_ROOT / "ablations" / f"{name}.yaml"):
        if path.is_file():
            return path
    known = sorted(path.stem for path in (CONFIG_ROOT / "ablations").glob("*.yaml"))
    raise UserError(f"--sweep '{name}': no such file; msrcnn comes with {', '.join(known)}")


def load_sweep(name: str) -> Sweep:
    """Read a sweep file.

    Args:
        name: see :func:`find_sweep`.

    Raises:
        UserError: naming the file, the entry and its mend.
    """
    path = find_sweep(name)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
        return _sweep(path, content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, _EntryError) as error:
        raise UserError(f"sweep {path}: {error}") from error


class _EntryError(Exception):
    """Something wrong with an entry of the file."""


def _sweep(path: Path, content: object) -> Sweep:
    top = _entry(
        content,
        "the file",
        {"title", "base", "seeds", "baseline", "report", "variants"},
        {"quick", "set", "head_only", "published_source"},
    )
    protocols = {
        FULL: _protocol(FULL, {k: top.get(k) for k in ("base", "set", "seeds", "head_only")})
    }
    for name, entry in _mapping(top.get("quick") or {}, "'quick'").items():
        if name == FULL:
            raise _EntryError(f"a quick protocol cannot be called '{FULL}'")
        protocols[_name(name)] = _protocol(name, entry)
    report = _report(top["report"])
    entries = _mapping(top["variants"], "'variants'")
    if not entries:
        raise _EntryError("'variants' is empty")
    variants = tuple(_variant(name, entry, protocols, report) for name, entry in entries.items())
    baseline = str(top["baseline"])
    if baseline not in {variant.name for variant in variants}:
        raise _EntryError(f"'baseline' is '{baseline}', which is none of {_names(entries)}")
    return Sweep(
        path,
        title=str(top["title"]),
        baseline=baseline,
        report=report,
        published_source=str(top.get("published_source") or ""),
        protocols=protocols,
        variants=variants,
    )


def _protocol(name: str, content: object) -> Protocol:
    where = f"protocol '{name}'"
    entry = _entry(content, where, {"base", "seeds"}, {"set", "head_only"})
    seeds = entry["seeds"]
    if not isinstance(seeds, list) or not seeds or not all(_is_seed(seed) for seed in seeds):
        raise _EntryError(f"{where}: 'seeds' is {seeds!r}, not a list of numbers from 0")
    if len(set(seeds)) < len(seeds):
        raise _EntryError(f"{where}: 'seeds' has one twice: {seeds}")
    head_only = entry.get("head_only")
    if head_only is not None:
        head_only = _settings(head_only, f"{where}: 'head_only'")
    return Protocol(
        name,
        base=str(entry["base"]),
        overrides=_settings(entry.get("set") or {}, f"{where}: 'set'"),
        seeds=tuple(seeds),
        head_only=head_only,
    )


def _is_seed(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _variant(name: object, content: object, protocols: dict, report: dict) -> Variant:
    where = f"variant '{name}'"
    entry = _entry(content or {}, where, set(), {"label", "set", "base", "published"})
    bases = _mapping(entry.get("base") or {}, f"{where}: 'base'")
    for protocol, base in bases.items():
        if not isinstance(base, str):
            raise _EntryError(f"{where}: 'base' of '{protocol}' is {base!r}, not a config's name")
        if protocol not in protocols:
            raise _EntryError(
                f"{where}: 'base' is for protocol '{protocol}', which is none of "
                f"{_names(protocols)}"
            )
    published = _mapping(entry.get("published") or {}, f"{where}: 'published'")
    for column, value in published.items():
        if column not in report:
            raise _EntryError(
                f"{where}: 'published' has '{column}', which is no column of 'report'"
            )
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise _EntryError(f"{where}: published '{column}' is {value!r}, not a number")
    label = str(entry.get("label") or name)
    if "|" in label or "\n" in label:
        raise _EntryError(f"{where}: a 'label' without | and line breaks goes into a table")
    return Variant(
        _name(name),
        label=label,
        overrides=_settings(entry.get("set") or {}, f"{where}: 'set'"),
        bases=bases,
        published=published,
    )


def _settings(content: object, where: str) -> dict:
    settings = _mapping(content, where)
    for key, value in settings.items():
        if isinstance(value, dict):
            raise _EntryError(f"{where} has {key} with keys below it: write them as {key}.KEY")
    return settings


def _report(content: object) -> dict[str, str]:
    report = _mapping(content, "'report'")
    if not report:
        raise _EntryError("'report' is empty")
    for column, key in report.items():
        task, _, metric = str(key).partition("/")
        if metric not in REPORTABLE.get(task, ()):
            known = [f"{task}/{metric}" for task, names in REPORTABLE.items() for metric in names]
            near = difflib.get_close_matches(str(key), known, cutoff=0.4) or known
            raise _EntryError(
                f"'report' column '{column}': there is no '{key}'; nearest: {', '.join(near)}"
            )
    return report


def _name(name: object) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _EntryError(f"'{name}' is no name: letters, digits and _ . + - (in quotes)")
    return name


def _mapping(content: object, where: str) -> dict:
    if not isinstance(content, dict):
        raise _EntryError(f"{where} is {content!r}, not names with values")
    return content


def _entry(content: object, where: str, needed: set[str], allowed: set[str]) -> dict:
    entry = _mapping(content, where)
    for key in entry:
        if key not in needed | allowed:
            raise _EntryError(f"{where} has '{key}'; known are {_names(sorted(needed | allowed))}")
    for key in sorted(needed):
        if entry.get(key) is None:
            raise _EntryError(f"{where} lacks '{key}'")
    return entry


def _names(names: Iterable) -> str:
    return ", ".join(f"'{name}'" for name in names)
