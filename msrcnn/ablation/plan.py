"""From a sweep file to the runs that it asks for, each with its complete, checked config."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..benchmark.cost import head_costs
from ..config import MERGE_ERRORS, load_config
from ..config_by_key import WITHOUT_HEAD, changed, differences, flatten
from ..config_mistakes import mistake, unknown_key
from ..data.registered import checked_dataset
from ..engine import prepare_config, scale_schedule
from ..engine.keep_best import check_data_of_best
from ..engine.schedule import end_of_schedule, values_as_given
from ..errors import UserError
from ..scores.cache_key import cache_name
from ..scores.fit_scores import CACHE
from .digest import digest
from .sweep import DETECTOR, Protocol, Sweep

HEAD = ("maskiou_head",)  # SOLVER.TRAIN_ONLY of a run that trains the head alone
CHECKPOINT_MINUTES = 5  # at most, so that an interruption costs little
KEEP = 2  # the last checkpoint, and the one before in case the last is damaged
# Beginnings of config keys in which a variant may differ from its detector. Our ROI heads and mask
# heads have the same parameters as the stock ones; the seed is set for each run, and the schedule
# stretches the period of evaluations during training.
MAY_DIFFER = (
    *("MODEL.ROI_MASKIOU_HEAD.", "SOLVER.", "TEST.EVAL_PERIOD"),
    *(*WITHOUT_HEAD, "MODEL.ROI_HEADS.NAME", "MODEL.ROI_MASK_HEAD.NAME", "SEED"),
)
RESULT = "result.json"  # in the folder of a finished run


@dataclass(frozen=True, eq=False)
class Run:
    """A training or a fit, and its evaluation.

    Attributes:
        name: name of the variant.
        seed: seed of all random numbers.
        cfg: the complete config, except for ``OUTPUT_DIR`` and the weights of ``start``.
        runs_dir: the folder that contains the run's folder.
        digest: hash of the config and the data. A changed config makes another run; sweeps that
            ask for the same config and data share a run.
        start: the run whose weights this one starts from: the best ones with
            ``SOLVER.KEEP_BEST``, otherwise the last.
        trains: ``False`` if there is nothing to train, so that weights are only evaluated.
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
        """The output folder, which another sweep may have created under another variant's name."""
        existing = sorted(self.runs_dir.glob(f"*-{self.digest}"))
        return (existing or [self.runs_dir / f"{self.name}-seed{self.seed}-{self.digest}"])[0]

    @property
    def finished(self) -> bool:
        return (self.folder / RESULT).is_file()

    @property
    def fits(self) -> bool:
        """Whether the head is fitted to detections of ``start``, instead of a training."""
        return self.cfg.SOLVER.FIT_SCORES and self.trains and self.start is not None

    @property
    def samples(self) -> Path:
        """The cache of the samples that the head is fitted to, which other runs may share."""
        return self.start.folder / CACHE / cache_name(self.cfg)

    @property
    def steps(self) -> int:
        if not self.trains:
            return 0
        return self.cfg.SOLVER.FIT_MAX_ITER if self.fits else self.cfg.SOLVER.MAX_ITER


@dataclass(eq=False)
class Plan:
    """Everything that a sweep asks for.

    Attributes:
        sweep: the sweep file.
        protocol_name: the protocol of the sweep.
        runs_dir: the folder for the folders of the runs.
        head_only: the runs train or fit the MaskIoU head alone, all from one detector.
        train_data, val_data: custom data, each as ``ANN.json:IMAGES``.
        opts: alternating keys and values that override the config of every run.
        detectors: by seed, the run of the Mask R-CNN that the heads are for, if ``head_only``; the
            same for all seeds unless the protocol is ``joint``.
        variants: the runs of each variant, by name and seed.
        costs: ``parameters`` and ``multiply_adds`` of the MaskIoU head by variant, if reported.
    """

    sweep: Sweep
    protocol_name: str
    runs_dir: Path
    head_only: bool
    train_data: Sequence[str]
    val_data: Sequence[str]
    opts: Sequence[str]
    detectors: dict[int, Run] = field(default_factory=dict)
    variants: dict[str, dict[int, Run]] = field(default_factory=dict)
    costs: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def protocol(self) -> Protocol:
        return self.sweep.protocols[self.protocol_name]

    @property
    def runs(self) -> list[Run]:
        """Every run once, seed by seed, so that the table has all variants early."""
        by_seed = [self.detectors] if self.detectors else []
        by_seed += self.variants.values()
        runs = [each[seed] for seed in self.protocol.seeds for each in by_seed]
        return list({run.digest: run for run in runs}.values())

    def part(self, names: Collection[str]) -> "Plan":
        """Returns the plan with some of its variants, in the order of the file.

        Raises:
            UserError: if there is no such variant.
        """
        for name in names:
            if name not in self.variants:
                known = ", ".join(f"'{each}'" for each in self.variants)
                raise UserError(f"{self.sweep.path} has no variant '{name}'; it has {known}")
        return replace(
            self, variants={name: runs for name, runs in self.variants.items() if name in names}
        )

    @property
    def detector(self) -> Run | None:
        """The detector of all seeds; ``None`` if there are several, or none."""
        first, *others = set(self.detectors.values()) or [None]
        return None if others else first


def make_plan(
    sweep: Sweep,
    protocol: str,
    runs_dir: Path,
    *,
    head_only: bool = False,
    train_data: Sequence[str] = (),
    val_data: Sequence[str] = (),
    opts: Sequence[str] = (),
) -> Plan:
    """Builds and checks the config of every run; writes nothing.

    Args:
        sweep: a sweep file.
        protocol: name of one of its protocols.
        runs_dir, head_only, train_data, val_data, opts: see :class:`Plan`.

    Raises:
        UserError: naming the variant and the mistake in its config.
    """
    # First without the sweep's settings, so that a mistake in opts is not blamed on a variant.
    load_config(sweep.protocols[protocol].base, [*end_of_schedule(opts), *opts])
    if "SEED" in opts[::2]:
        raise UserError("command line: SEED is set by 'seeds' in the sweep file; remove it")
    plan = Plan(sweep, protocol, runs_dir, head_only, train_data, val_data, opts)
    if head_only:
        plan.detectors = _detector_runs(plan)
    for name in sweep.variants:
        try:
            plan.variants[name] = _variant_runs(plan, name)
        except UserError as error:
            raise UserError(f"sweep {sweep.path}, variant '{name}': {error}") from error
    _check_same_dataset(plan)
    if any(key.startswith("cost/") for key in sweep.report.values()):
        for name, runs in plan.variants.items():
            cfg = runs[plan.protocol.seeds[0]].cfg
            plan.costs[name] = head_costs(cfg).get("maskiou_head", {})
    return plan


def _detector_runs(plan: Plan) -> dict[int, Run]:
    """Returns by seed the run of the Mask R-CNN whose boxes and masks all variants score."""
    protocol = plan.protocol
    if protocol.head_only is None:
        raise UserError(
            f"--head-only: {plan.sweep.path} has no schedule for it in protocol "
            f"'{plan.protocol_name}'; add 'head_only' if the variants differ in the MaskIoU head "
            "alone"
        )
    if protocol.joint:
        cfg = _config(plan, protocol.base, protocol.overrides)
        _build_head(cfg)
        return {seed: _run(plan, DETECTOR, seed, cfg) for seed in protocol.seeds}
    cfg = _config(plan, protocol.base, protocol.overrides, WITHOUT_HEAD)
    _build_head(cfg)
    return dict.fromkeys(protocol.seeds, _run(plan, DETECTOR, protocol.seeds[0], cfg))


def _variant_runs(plan: Plan, name: str) -> dict[int, Run]:
    """Returns the runs of a variant by seed."""
    protocol, variant = plan.protocol, plan.sweep.variants[name]
    base = variant.bases.get(plan.protocol_name, protocol.base)
    schedule = protocol.head_only if plan.head_only else {}
    cfg = _config(plan, base, protocol.overrides, schedule, variant.overrides)
    if plan.head_only:
        _check_same_detector(cfg, next(iter(plan.detectors.values())).cfg)
        if not cfg.SOLVER.FIT_SCORES and not protocol.joint:
            cfg.SOLVER.TRAIN_ONLY = HEAD
    elif cfg.SOLVER.FIT_SCORES:
        raise UserError("SOLVER.FIT_SCORES needs --head-only: a sweep of whole models fits nothing")
    head = _build_head(cfg)
    if not plan.head_only:
        return {seed: _run(plan, name, seed, cfg) for seed in protocol.seeds}
    learns = bool(list(head.parameters()))
    if learns and protocol.joint and not cfg.SOLVER.FIT_SCORES:
        _check_joint_head(cfg, next(iter(plan.detectors.values())).cfg)
        learns = False
    if not learns and not protocol.joint:
        # All seeds give the same result.
        run = _run(plan, name, protocol.seeds[0], cfg, plan.detector, trains=False)
        return dict.fromkeys(protocol.seeds, run)
    return {
        seed: _run(plan, name, seed, cfg, detector, trains=learns)
        for seed, detector in plan.detectors.items()
    }


def _run(
    plan: Plan, name: str, seed: int, cfg: CfgNode, start: Run | None = None, *, trains: bool = True
) -> Run:
    cfg = changed(cfg, {"SEED": seed})
    cfg.freeze()
    return Run(name, seed, cfg, plan.runs_dir, digest(cfg, start and start.digest), start, trains)


def _config(plan: Plan, base: str, *settings: dict) -> CfgNode:
    """Returns a complete config, except for the seed.

    Args:
        plan: its ``opts`` override the settings.
        base: config file.
        *settings: keys and values of the sweep file; later ones override earlier ones.
    """
    checked = load_config(base)
    for each in settings:
        _check_settings(checked, each)
    layers = [[item for pair in each.items() for item in pair] for each in settings]
    layers.append([*plan.opts])
    cfg = prepare_config(
        base,
        [item for layer in layers for item in (*end_of_schedule(layer), *layer)],
        train_data=plan.train_data,
        val_data=plan.val_data,
        splits=("TRAIN", "TEST"),
    )
    # For the true number of steps.
    scale_schedule(cfg, values_as_given([item for layer in layers for item in layer]))
    cfg.SOLVER.CHECKPOINT_MINUTES = cfg.SOLVER.CHECKPOINT_MINUTES or CHECKPOINT_MINUTES
    cfg.SOLVER.CHECKPOINT_KEEP = cfg.SOLVER.CHECKPOINT_KEEP or KEEP
    if len(cfg.DATASETS.TEST) != 1:
        raise UserError(
            f"DATASETS.TEST names {len(cfg.DATASETS.TEST)} datasets, but a sweep evaluates on one"
            + (": give --val-data too" if plan.train_data else "")
        )
    checked_dataset(cfg.DATASETS.TEST[0]).for_evaluation()
    check_data_of_best(cfg)
    return cfg


def _check_settings(cfg: CfgNode, settings: dict) -> None:
    """Checks settings of a sweep file one by one.

    Raises:
        UserError: naming the key, and for an unknown key the nearest ones.
    """
    known = flatten(cfg)
    for key, value in settings.items():
        if key == "SEED":
            raise UserError("'set' has SEED, which is set by the protocol's 'seeds'; remove it")
        if key not in known:
            raise UserError(f"'set': {unknown_key(key, known)}")
        try:
            cfg.merge_from_list([key, value])
        except MERGE_ERRORS as error:
            raise UserError(f"'set': {mistake(error, cfg)}") from error


def _build_head(cfg: CfgNode) -> nn.Module | None:
    """Builds a config's model without memory, which takes no time, and returns its MaskIoU head.

    Raises:
        UserError: if the model cannot be built.
    """
    try:
        with torch.device("meta"):
            model = build_model(changed(cfg, {"MODEL.DEVICE": "meta"}))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"its model cannot be built: {error!r}") from error
    return getattr(getattr(model.roi_heads, "mask_head", None), "maskiou_head", None)


def _check_same_dataset(plan: Plan) -> None:
    """Rejects variants that are not evaluated on the dataset of the baseline.

    Raises:
        UserError: naming the first such variant.
    """
    datasets = {
        name: runs[plan.protocol.seeds[0]].cfg.DATASETS.TEST[0]
        for name, runs in plan.variants.items()
    }
    baseline = plan.sweep.baseline
    for name, dataset in datasets.items():
        if dataset != datasets[baseline]:
            raise UserError(
                f"sweep {plan.sweep.path}, variant '{name}': it is evaluated on '{dataset}', but "
                f"the baseline '{baseline}' on '{datasets[baseline]}', so that they cannot be "
                "compared; give all variants the same DATASETS.TEST"
            )


def _check_same_detector(cfg: CfgNode, detector: CfgNode) -> None:
    """Rejects a variant that differs from the detector in more than the head and its training."""
    if not cfg.MODEL.MASKIOU_ON:
        raise UserError("--head-only: it has no MaskIoU head (MODEL.MASKIOU_ON False)")
    if differing := differences(cfg, detector, MAY_DIFFER):
        raise UserError(
            "--head-only: 'head_only' and its 'set' may change SOLVER and MODEL.ROI_MASKIOU_HEAD "
            f"only, but they change the detector's {', '.join(differing)}"
        )


def _check_joint_head(cfg: CfgNode, detector: CfgNode) -> None:
    """Rejects a variant without a fit whose head is not the one trained with the detector."""
    if cfg.MODEL.ROI_MASKIOU_HEAD != detector.MODEL.ROI_MASKIOU_HEAD:
        raise UserError(
            "the protocol is 'joint': a variant without SOLVER.FIT_SCORES True is evaluated with "
            "the MaskIoU head of the detector, so MODEL.ROI_MASKIOU_HEAD must be that of the base"
        )
