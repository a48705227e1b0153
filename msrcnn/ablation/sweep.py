"""Sweep files: which variants are compared, how each is trained, and what is reported."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from ..config import CONFIG_ROOT, SEED_LIMIT, SWEEPS
from ..errors import UserError
from ..escaping import one_line
from ..evaluation.agreement import SCORES
from ..evaluation.rankings import AP_LABELS, number_names
from ..yaml_limits import StrictLoader

FULL = "full"  # name of the protocol at the top level of a sweep file
DETECTOR = "mask_rcnn"  # name of the run whose boxes and masks all heads share
# Numbers that can be reported: keys of evaluation.json, and the cost of the MaskIoU head.
REPORTABLE = [*number_names(AP_LABELS, SCORES), "cost/parameters", "cost/multiply_adds"]


def _check_settings(settings: dict) -> dict:
    for key, value in settings.items():
        if isinstance(value, dict):
            raise ValueError(f"write the keys below {key} as {key}.KEY")
    return settings


def _check_seeds(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed occurs twice")
    return seeds


def _check_reportable(key: str) -> str:
    if key not in REPORTABLE:
        near = difflib.get_close_matches(key, REPORTABLE, cutoff=0.4) or REPORTABLE
        raise ValueError(f"there is no such number; nearest: {', '.join(near)}")
    return key


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]*$")]  # becomes part of a folder's name
Settings = Annotated[dict[str, Any], AfterValidator(_check_settings)]
Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_check_seeds)]
ReportKey = Annotated[str, AfterValidator(_check_reportable)]


def _check_known(where: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{where} has '{name}', which is none of {_quoted(known)}")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _may_be_empty(cls, entry: Any) -> Any:
        return {} if entry is None else entry


class Protocol(_Entry):
    """How every variant is trained.

    Attributes:
        base: config file, or its name below ``configs/``.
        overrides: config keys and values for every variant, e.g. a shorter schedule; ``set`` in the
            file.
        seeds: every variant is trained once with each seed.
        head_only: config keys of ``SOLVER`` and ``MODEL.ROI_MASKIOU_HEAD`` and their values, for
            the MaskIoU head alone: the schedule of a training on proposals, or the settings of a
            fit to detections. ``set`` of a variant overrides them. ``None`` if the sweep varies
            more than the head.
        joint: with ``head_only``, every seed has a detector of its own, which is trained together
            with the base's MaskIoU head. A variant without a fit is evaluated with that head.
    """

    base: str
    overrides: Settings = Field({}, alias="set")
    seeds: Seeds
    head_only: Settings | None = None
    joint: bool = False


class Variant(_Entry):
    """A row of the table.

    Attributes:
        label: its name in the table; by default its name in the file.
        overrides: config keys and values that distinguish the variant; ``set`` in the file.
        bases: by protocol, the config that replaces the protocol's base; ``base`` in the file.
        published: published numbers by column, shown for comparison.
    """

    label: str = ""
    overrides: Settings = Field({}, alias="set")
    bases: dict[str, str] = Field({}, alias="base")
    published: dict[str, FiniteFloat] = {}


class Sweep(Protocol):
    """A sweep file. Its top level is also the full protocol.

    Attributes:
        title: title of the table.
        baseline: name of the variant that the others are compared with.
        report: keys of ``evaluation.json``, such as ``segm_mask_score/AP``, by column heading;
            variants are compared by the first.
        published_source: where the published numbers are from.
        quick: quick protocols by name.
        variants: by name, in the order of the table.
    """

    title: str
    baseline: str
    report: dict[str, ReportKey] = Field(min_length=1)
    published_source: str = ""
    quick: dict[Name, Protocol] = {}
    variants: dict[Name, Variant] = Field(min_length=1)
    _path: Path

    @property
    def path(self) -> Path:
        return self._path

    @property
    def protocols(self) -> dict[str, Protocol]:
        """All protocols by name, ``"full"`` first."""
        return {FULL: self, **self.quick}

    @model_validator(mode="after")
    def _check_references(self) -> "Sweep":
        if FULL in self.quick:
            raise ValueError(f"a quick protocol cannot be called '{FULL}'")
        heads_only = any(each.head_only is not None for each in self.protocols.values())
        if heads_only and DETECTOR in self.variants:
            raise ValueError(
                f"a variant cannot be called '{DETECTOR}', which is the name of the detector of "
                "'head_only': rename it"
            )
        _check_known("'baseline'", [self.baseline], self.variants)
        for name, variant in self.variants.items():
            variant.label = variant.label or name
            _check_known(f"variant '{name}', 'base'", variant.bases, self.protocols)
            _check_known(f"variant '{name}', 'published'", variant.published, self.report)
        return self

    def choose_protocol(self, name: str | None, *, quick: bool) -> str:
        """Returns the name of a protocol, if it exists; by default the full or the first quick one.

        Raises:
            UserError: if there is none.
        """
        names = list(self.quick if quick else self.protocols)
        kind = "quick protocol" if quick else "protocol"
        if not names:
            raise UserError(f"{self.path} has no {kind}: add one under 'quick'")
        if name not in (None, *names):
            raise UserError(f"{self.path} has no {kind} '{name}'; it has {_quoted(names)}")
        return name or names[0]


def load_sweep(name: str) -> Sweep:
    """Loads and checks a sweep file.

    Args:
        name: path of the file, or its name below ``configs/ablations/``.

    Raises:
        UserError: naming the file, the entry, what is wrong with it and how to fix it.
    """
    shipped = {path.stem: path for path in sorted((CONFIG_ROOT / SWEEPS).glob("*.yaml"))}
    path = next(filter(Path.is_file, (Path(name), CONFIG_ROOT / name)), shipped.get(name))
    if path is None:
        raise UserError(f"--sweep '{name}': no such file; msrcnn comes with {', '.join(shipped)}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), StrictLoader)
        sweep = Sweep.model_validate(content)
    except ValidationError as error:
        # An unknown key first: a misspelled key is also missing.
        errors = sorted(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        raise UserError(f"sweep {path}: {_message(errors[0])}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise UserError(f"sweep {path}, line {line}: {error.problem}") from error
    except RecursionError as error:
        raise UserError(f"sweep {path}: a value is nested too deep") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"sweep {path}: {one_line(str(error))}") from error
    sweep._path = path
    return sweep


def _message(error: ErrorDetails) -> str:
    """Returns an error of pydantic in one line: the entry, what is wrong, how to fix it."""
    location = error["loc"]
    parts = [f"item {part + 1}" if isinstance(part, int) else f"'{part}'" for part in location]
    model = Sweep
    if len(parts) > 1 and location[0] in ("variants", "quick"):
        kind, model = {"variants": ("variant", Variant), "quick": ("protocol", Protocol)}[
            location[0]
        ]
        parts[:2] = [f"{kind} {parts[1]}"]
    where = ", ".join(part for part in parts if part != "'[key]'")
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] == "extra_forbidden":
        keys = (field.alias or name for name, field in model.model_fields.items())
        return f"{where} is not a known key; known keys: {_quoted(keys)}"
    problem = error["msg"].removeprefix("Value error, ")
    return f"{where}: {problem}; found {error['input']!r}" if where else problem


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
