"""From a sweep file to the runs it asks for, each with its complete, checked config."""

import argparse
import difflib
import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from ..benchmark.cost import head_costs
from ..config import get_msrcnn_cfg
from ..data.custom import OWN_DATA, is_own_data
from ..engine.defaults import MERGE_ERRORS, complete_config, find_config, load_config
from ..engine.schedule import scale_schedule
from ..errors import UserError
from .sweep import FULL, Protocol, Sweep, Variant

HEAD = ("maskiou_head",)  # SOLVER.TRAIN_ONLY of a run that trains the head alone
DETECTOR = "mask_rcnn"  # the run whose boxes and masks all heads share
CHECKPOINT_MINUTES = 5  # at the most, so that an interruption costs little
KEEP = 2  # the last, and the one before it should that be damaged
# Config keys that make no difference to a result.
INDIFFERENT = {
    *("OUTPUT_DIR", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS"),
    *(f"SOLVER.CHECKPOINT_{key}" for key in ("PERIOD", "MINUTES", "KEEP")),
}
RESULT = "result.json"  # in a run's folder once it is finished


@dataclass(frozen=True, eq=False)
class Run:
    """One training with its evaluation.

    Attributes:
        name: of the variant.
        seed: of all random numbers.
        cfg: complete, but for ``OUTPUT_DIR`` and the weights of ``start``.
        runs_dir: its folder is below it.
        digest: of the config and the data. Another config is another run, and one that several
            sweeps ask for is the same.
        start: the run whose weights it starts from.
        trains: ``False`` where there is nothing to learn, and weights are only evaluated.
    """

    name: str
    seed: int
    cfg: CfgNode
    runs_dir: Path
    digest: str
    start: "Run | None" = None
    trains: bool = True

    @property
    def title(self) -> str:
        return f"{self.name} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where it takes place; the folder may bear the name that another sweep has given it."""
        for folder in sorted(self.runs_dir.glob(f"*-{self.digest}")):
            return folder
        return self.runs_dir / f"{self.name}-seed{self.seed}-{self.digest}"

    @property
    def finished(self) -> bool:
        return (self.folder / RESULT).is_file()

    @property
    def steps(self) -> int:
        return self.cfg.SOLVER.MAX_ITER if self.trains else 0


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a sweep asks for.

    Attributes:
        sweep, protocol: what it was made from.
        head_only: the runs train the MaskIoU head alone, all from one detector.
        arguments: of the data, passed on to every run.
        opts: ``KEY VALUE`` in turn that every run has.
        variants: the runs of each variant, by name and seed.
        detector: the Mask R-CNN that the heads are trained on, if ``head_only``.
        costs: of the MaskIoU head by variant, where the sweep reports them.
    """

    sweep: Sweep
    protocol: Protocol
    head_only: bool
    arguments: dict[str, str | None]
    opts: list[str]
    variants: dict[str, dict[int, Run]]
    detector: Run | None
    costs: dict[str, dict[str, int]]

    @property
    def runs(self) -> list[Run]:
        """Each once, seed by seed, so that a table is complete early."""
        seeds = [
            self.variants[name][seed] for seed in self.protocol.seeds for name in self.variants
        ]
        first = [self.detector] if self.detector else []
        return list({run.digest: run for run in [*first, *seeds]}.values())


def make_plan(
    sweep: Sweep,
    protocol: Protocol,
    runs_dir: Path,
    *,
    head_only: bool = False,
    arguments: dict[str, str | None] | None = None,
    opts: list[str] = (),
) -> Plan:
    """Make and check the config of every run; nothing is written.

    Args:
        sweep: a sweep file.
        protocol: of the sweep.
        runs_dir: the runs' folders are below it.
        head_only: train the MaskIoU head alone on one Mask R-CNN.
        arguments: ``train_data`` and ``val_data``, see :func:`msrcnn.data.custom.use_data`.
        opts: ``KEY VALUE`` in turn, for every run.

    Raises:
        UserError: naming the variant and the mistake in its config.
    """
    load_config(find_config(protocol.base), list(opts))  # a mistake in them is no variant's
    if "SEED" in opts[::2]:
        raise UserError("command line: SEED is given by the 'seeds' of the sweep file")
    maker = _Maker(sweep, protocol, runs_dir, arguments or {}, list(opts))
    detector = maker.detector() if head_only else None
    runs = {}
    for variant in sweep.variants:
        try:
            runs[variant.name] = maker.variant(variant, detector)
        except UserError as error:
            raise UserError(f"sweep {sweep.path}, variant '{variant.name}': {error}") from error
    costs = {}
    if any(key.startswith("cost/") for key in sweep.report.values()):
        for name, by_seed in runs.items():
            cfg = next(iter(by_seed.values())).cfg
            costs[name] = head_costs(cfg).get("maskiou_head", {})
    return Plan(
        *(sweep, protocol, head_only, arguments or {}, list(opts), runs, detector),
        costs=costs,
    )


@dataclass(frozen=True)
class _Maker:
    """Makes the runs of one plan."""

    sweep: Sweep
    protocol: Protocol
    runs_dir: Path
    arguments: dict[str, str | None]
    opts: list[str]

    def detector(self) -> Run:
        """The Mask R-CNN whose boxes and masks all variants score."""
        if self.protocol.head_only is None:
            raise UserError(
                f"--head-only: {self.sweep.path} gives no schedule for it in protocol "
                f"'{self.protocol.name}'; add 'head_only' if its variants differ in the MaskIoU "
                "head alone"
            )
        settings = {**self.protocol.overrides, "MODEL.MASKIOU_ON": False}
        cfg = self._config(self.protocol.base, settings)
        return self._make(DETECTOR, self.protocol.seeds[:1], cfg)[self.protocol.seeds[0]]

    def variant(self, variant: Variant, detector: Run | None) -> dict[int, Run]:
        """The runs of a variant by seed."""
        settings = {**self.protocol.overrides, **variant.overrides}
        base = variant.bases.get(self.protocol.name, self.protocol.base)
        if detector is not None:
            _check_same_detector(self._config(base, settings), detector.cfg)
            settings |= {**self.protocol.head_only, "SOLVER.TRAIN_ONLY": HEAD}
        return self._make(variant.name, self.protocol.seeds, self._config(base, settings), detector)

    def _config(self, base: str, settings: dict) -> CfgNode:
        opts = [item for pair in settings.items() for item in pair]
        arguments = argparse.Namespace(
            config_file=base,
            opts=[*opts, *self.opts],
            train_data=self.arguments.get("train_data"),
            val_data=self.arguments.get("val_data"),
            resume=False,
            eval_only=False,
        )
        _merge(load_config(find_config(base), []), settings)
        cfg = complete_config(arguments)
        scale_schedule(cfg)  # so that the steps are those that will be taken
        solver = cfg.SOLVER
        solver.CHECKPOINT_MINUTES = solver.CHECKPOINT_MINUTES or CHECKPOINT_MINUTES
        solver.CHECKPOINT_KEEP = solver.CHECKPOINT_KEEP or KEEP
        if len(cfg.DATASETS.TEST) != 1:
            raise UserError(
                f"DATASETS.TEST names {len(cfg.DATASETS.TEST)} datasets; a sweep evaluates on one"
                + (": give --val-data too" if self.arguments.get("train_data") else "")
            )
        return cfg

    def _make(
        self, name: str, seeds: tuple[int, ...], cfg: CfgNode, start: Run | None = None
    ) -> dict[int, Run]:
        head = _head(cfg)  # what cannot be built is refused now
        if start is not None and not any(True for _ in head.parameters()):
            # The same for all seeds: there is nothing to train.
            (run,) = self._seeded(name, seeds[:1], cfg, start, trains=False).values()
            return dict.fromkeys(seeds, run)
        return self._seeded(name, seeds, cfg, start, trains=True)

    def _seeded(
        self, name: str, seeds: tuple[int, ...], cfg: CfgNode, start: Run | None, *, trains: bool
    ) -> dict[int, Run]:
        runs = {}
        for seed in seeds:
            seeded = cfg.clone()
            seeded.SEED = seed
            seeded.freeze()
            digest = _digest(seeded, start)
            runs[seed] = Run(name, seed, seeded, self.runs_dir, digest, start, trains)
        return runs


def _merge(cfg: CfgNode, settings: dict) -> None:
    """Check a variant's settings, one by one.

    Raises:
        UserError: naming the key, and those nearest to it.
    """
    known = _flat(cfg)
    for key, value in settings.items():
        if key == "SEED":
            raise UserError("'set' has SEED, which the protocol's 'seeds' give")
        if key not in known:
            near = difflib.get_close_matches(key, known) or ["none"]
            raise UserError(
                f"'set' has '{key}', which is no config key; nearest: {', '.join(near)}"
            )
        try:
            cfg.merge_from_list([key, value])
        except MERGE_ERRORS as error:
            raise UserError(f"'set' has {key} {value!r}: {error}") from error


def _head(cfg: CfgNode) -> torch.nn.Module | None:
    """The MaskIoU head of a config's model, without memory and so without time."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        try:
            model = build_model(cfg)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"its model cannot be built: {error!r}") from error
    return getattr(getattr(model.roi_heads, "mask_head", None), "maskiou_head", None)


def _check_same_detector(cfg: CfgNode, detector: CfgNode) -> None:
    """Refuse a variant that differs from the detector in more than the MaskIoU head."""
    ours, theirs = _flat(cfg), _flat(detector)
    differing = [
        key
        for key in sorted({*ours, *theirs})
        if ours.get(key) != theirs.get(key)
        and not key.startswith("MODEL.ROI_MASKIOU_HEAD.")
        # ROI heads of ours for what the stock ones cannot carry: the same parameters.
        and key not in ("MODEL.MASKIOU_ON", "MODEL.ROI_HEADS.NAME", "MODEL.ROI_MASK_HEAD.NAME")
    ]
    if not cfg.MODEL.MASKIOU_ON:
        raise UserError("--head-only: it has no MaskIoU head (MODEL.MASKIOU_ON False)")
    if differing:
        raise UserError(
            f"--head-only: it differs from the others in more than the MaskIoU head: "
            f"{', '.join(differing)}"
        )


def _flat(cfg: CfgNode, prefix: str = "") -> dict:
    """Values by complete key, as ``SOLVER.MAX_ITER``."""
    flat = {}
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _digest(cfg: CfgNode, start: Run | None) -> str:
    """What a run's result depends on, in ten characters."""
    settings, defaults = _flat(cfg), _flat(get_msrcnn_cfg())
    # By what differs from the defaults, so that a key that a later version adds changes nothing.
    changed = {
        key: value
        for key, value in settings.items()
        if key not in INDIFFERENT and (key not in defaults or value != defaults[key])
    }
    for split in ("DATASETS.TRAIN", "DATASETS.TEST"):
        changed[split] = [_data_digest(name) for name in settings[split]]
    content = json.dumps([changed, start.digest if start else None], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def _data_digest(name: str) -> str:
    """Data are what is in the annotation file, wherever it lies; a name where there is none."""
    annotations = Path(name.split(OWN_DATA)[0])
    if not is_own_data(name):
        annotations = Path(MetadataCatalog.get(name).get("json_file") or "")
    if not annotations.is_file():
        return name
    return _file_digest(annotations, annotations.stat().st_mtime_ns)


@functools.cache
def _file_digest(path: Path, modified: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def describe(plan: Plan) -> str:
    """What kind of runs these are, in a line for tables and terminals."""
    cfgs = [run.cfg for runs in plan.variants.values() for run in runs.values()]
    dataset = cfgs[0].DATASETS.TEST[0]
    kind = "Full protocol" if plan.protocol.name == FULL else "Quick protocol"
    seeds = len(plan.protocol.seeds)
    text = (
        f"{kind} ({plan.protocol.base}), evaluated on "
        f"{'own data' if is_own_data(dataset) else dataset} with up to "
        f"{_range(cfg.TEST.DETECTIONS_PER_IMAGE for cfg in cfgs)} detections an image; "
        f"{_range(cfg.SOLVER.MAX_ITER for cfg in cfgs)} steps of "
        f"{_range(cfg.SOLVER.IMS_PER_BATCH for cfg in cfgs)} images, "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    )
    if plan.head_only:
        text += (
            f"; head only: the MaskIoU heads alone are trained, all on the one Mask R-CNN of "
            f"{plan.detector.cfg.SOLVER.MAX_ITER} steps, whose boxes and masks they share"
        )
    else:
        text += "; everything is trained, end to end"
    if plan.opts:
        text += f"; with {' '.join(map(str, plan.opts))}"
    return f"{text}."


def _range(values: Iterable[int]) -> str:
    low, *between = sorted(set(values))
    return f"{low} to {between[-1]}" if between else f"{low}"
