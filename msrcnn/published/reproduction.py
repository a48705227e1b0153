"""Compares finished runs with published results."""

import statistics
from pathlib import Path

from detectron2.config import CfgNode
from tabulate import tabulate

from ..config import RUN_CONFIG, load_config
from ..config_by_key import NO_EFFECT, differences
from ..engine import prepare_config
from ..engine.schedule import scale_schedule
from ..errors import UserError
from ..evaluation import (
    ap_interval,
    load_ground_truth,
    load_predictions,
    student_interval,
    too_few_images,
)
from ..evaluation.result_files import EVALUATION, PREDICTIONS
from ..evaluation.settings import DEFAULT_SETTINGS
from ..json_file import read_json_object
from .numbers import DATASET, FOLDER, IMAGES, Published, load_published

# Beginnings of config keys that do not make another training.
MAY_DIFFER = (
    *NO_EFFECT,
    *("SEED", "VERSION", "VIS_PERIOD", "CUDNN_BENCHMARK", "SOLVER.KEEP_BEST"),
    *("SOLVER.REFERENCE_WORLD_SIZE", "DATASETS.TEST"),
    *("TEST.EVAL_PERIOD", "TEST.BOOTSTRAP", "TEST.COCO_ENGINE"),
)
EVALUATE_AGAIN = "evaluate the run again"


def compare_with_published(folders: list[Path], config: str | None = None) -> dict:
    """Compares runs of one config with what was published for it.

    Args:
        folders: output folders of finished trainings that differ in their seed at most.
        config: name of a published config to compare with; by default the one that the first run
            differs least from.

    Returns:
        ``config``; ``differences``, the config keys in which the first run differs from it, with
        the values of the run and of the config; ``images``; ``over``, what the intervals are over
        (``"images"`` for one run, otherwise ``"runs"``); ``results``, a list with the ``metric``
        (``mask AP`` or ``box AP``), the ``AP`` of the runs (their mean) and its ``ci95``, the
        ``published`` AP and its ``source``, and the ``verdict``: whether the published AP lies
        within the interval; and for Mask Scoring R-CNN ``gain``, the mean gain over box score.

    Raises:
        UserError: if a folder has no finished training, or one that was not evaluated on COCO 2017
            val, or there is nothing published to compare with.
    """
    folders = list({folder.resolve(): folder for folder in folders}.values())  # each run once
    cfgs = [load_config(_existing(folder / RUN_CONFIG)) for folder in folders]
    evaluations = [_read_evaluation(folder, cfg) for folder, cfg in zip(folders, cfgs)]
    for folder, cfg in zip(folders[1:], cfgs[1:]):
        if differing := differences(cfgs[0], cfg, MAY_DIFFER):
            raise UserError(
                f"{folder} is another training than {folders[0]}: they differ in "
                f"{', '.join(differing)}; give runs that differ in their seed at most"
            )
    published = load_published()
    config = _find_config(cfgs[0], published, config)
    results = [each for each in published if each.config == config]
    scored = cfgs[0].MODEL.MASKIOU_ON
    rankings = {"mask AP": "segm_mask_score" if scored else "segm_box_score", "box AP": "bbox"}
    intervals = {
        metric: _interval(folders, cfgs[0], [each[ranking]["AP"] for each in evaluations], ranking)
        for metric, ranking in rankings.items()
    }
    rows = []
    for result in results:
        for metric, value in (("mask AP", result.mask), ("box AP", result.box)):
            if value is None:
                continue
            ap = statistics.fmean(each[rankings[metric]]["AP"] for each in evaluations)
            verdict = _verdict(intervals[metric], value)
            rows.append(
                {
                    "metric": metric,
                    "AP": ap,
                    "ci95": intervals[metric],
                    "published": value,
                    "source": result.source,
                    "verdict": verdict,
                }
            )
    return {
        "config": config,
        "differences": differences(cfgs[0], _as_trained(config, cfgs[0]), MAY_DIFFER),
        "images": evaluations[0]["images"],
        "over": "images" if len(folders) == 1 else "runs",
        "results": rows,
        "gain": statistics.fmean(each["delta"]["AP"] for each in evaluations) if scored else None,
    }


def _verdict(interval: list[float] | None, published: float) -> str:
    if interval is None:
        return "unknown"
    low, high = interval
    return "reproduced" if low <= published <= high else "lower" if high < published else "higher"


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(
            f"{path} does not exist: give the output folder of a finished `msrcnn train`"
        )
    return path


def _read_evaluation(folder: Path, cfg: CfgNode) -> dict:
    path = _existing(folder / EVALUATION)
    evaluation = read_json_object(path, EVALUATE_AGAIN)
    scores = ("segm_mask_score", "delta") if cfg.MODEL.MASKIOU_ON else ("segm_box_score",)
    needed = ("images", *(f"{name}.AP" for name in sorted(("bbox", *scores))))
    missing = [name for name in needed if not isinstance(_value(evaluation, name), int | float)]
    if missing:
        raise UserError(f"'{path}' lacks {', '.join(missing)}: {EVALUATE_AGAIN}")
    last = _value(evaluation, "provenance.iteration")
    if isinstance(last, int) and last + 1 < cfg.SOLVER.MAX_ITER and not cfg.SOLVER.EARLY_STOP:
        raise UserError(
            f"'{path}' is of iteration {last + 1} of {cfg.SOLVER.MAX_ITER}: finish the training by "
            "`msrcnn train --resume`"
        )
    if tuple(cfg.DATASETS.TEST) != (DATASET,) or evaluation["images"] != IMAGES:
        raise UserError(
            f"{folder} was evaluated on {evaluation['images']} images of "
            f"{', '.join(cfg.DATASETS.TEST)}; published results are on the {IMAGES} images of "
            f"{DATASET}: evaluate there, `msrcnn train --eval-only --resume --config-file "
            f"{folder / 'config.yaml'} OUTPUT_DIR {folder} DATASETS.TEST \"('{DATASET}',)\"`"
        )
    return evaluation


def _value(content: object, name: str) -> object:
    """Returns what a file has below keys that dots join, or None: it may have null at each."""
    for key in name.split("."):
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _as_trained(config: str, cfg: CfgNode) -> CfgNode:
    """Returns a published config at the batch size of a run, with the schedule scaled to it."""
    expected = prepare_config(f"{FOLDER}/{config}.yaml")
    if cfg.SOLVER.IMS_PER_BATCH != expected.SOLVER.REFERENCE_BATCH:
        expected.SOLVER.IMS_PER_BATCH = cfg.SOLVER.IMS_PER_BATCH
        expected.SOLVER.AUTO_SCALE = True
        scale_schedule(expected)
    return expected


def _find_config(cfg: CfgNode, published: list[Published], config: str | None) -> str:
    known = list(dict.fromkeys(each.config for each in published))
    if config is not None:
        if config not in known:
            raise UserError(
                f"nothing is published for config '{config}'; there is for {', '.join(known)}"
            )
        return config
    kind = "ms_rcnn" if cfg.MODEL.MASKIOU_ON else "mask_rcnn"
    return min(
        (name for name in known if name.startswith(kind)),
        key=lambda name: len(differences(cfg, _as_trained(name, cfg), MAY_DIFFER)),
    )


def _interval(
    folders: list[Path], cfg: CfgNode, aps: list[float], ranking: str
) -> list[float] | None:
    if len(folders) > 1:
        return student_interval(aps)
    path = _existing(folders[0] / PREDICTIONS)
    ground_truth, mask_scores = load_ground_truth(DATASET), ranking == "segm_mask_score"
    detections = load_predictions(path, ground_truth)
    return ap_interval(
        ground_truth,
        detections,
        "bbox" if ranking == "bbox" else "segm",
        detections.mask_score if mask_scores else detections.score,
        max_dets=cfg.TEST.DETECTIONS_PER_IMAGE,
        samples=DEFAULT_SETTINGS.bootstrap,
    )


def verdict_table(comparison: dict) -> str:
    """Formats a result of :func:`compare_with_published` as text."""
    rows = [
        [
            row["metric"],
            f"{row['AP']:.1f}",
            "{:.1f} to {:.1f}".format(*row["ci95"]) if row["ci95"] else "-",
            f"{row['published']:.1f}",
            row["source"],
            row["verdict"],
        ]
        for row in comparison["results"]
    ]
    headers = ["", "here", "95% interval", "published", "source", "verdict"]
    alignment = ("left", "right", "right", "right", "left", "left")
    lines = [f"{comparison['config']}, {comparison['images']:,} images", ""]
    lines.append(tabulate(rows, headers, disable_numparse=True, colalign=alignment))
    lines.append("")
    if reason := comparison["over"] == "images" and too_few_images(comparison["images"]):
        lines.append(f"{reason[0].upper()}{reason[1:]}.")
    elif comparison["over"] == "images":
        lines.append(
            "Interval by bootstrap over images, for one training. Trainings with other seeds "
            "differ as well: give several runs for an interval over runs."
        )
    else:
        lines.append("Mean and interval over runs (Student's t).")
    if comparison["gain"] is not None:
        lines.append(f"Mask score over box score: {comparison['gain']:+.2f} mask AP.")
    if comparison["differences"]:
        differing = (
            f"  {key}: {ours!r} instead of {theirs!r}"
            for key, (ours, theirs) in comparison["differences"].items()
        )
        lines += ["It is not the same training as the config:", *differing]
    return "\n".join(lines)
