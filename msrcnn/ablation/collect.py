"""What came out of a sweep, in numbers."""

import json
import math
import statistics

from scipy.stats import t as student_t

from ..engine.evaluate import evaluation_settings
from ..errors import UserError
from ..evaluation import compare_detections, load_ground_truth, load_predictions
from .plan import RESULT, Plan, Run, describe
from .sweep import FULL

CONFIDENCE = 0.95


def collect(plan: Plan) -> dict:
    """The results of all finished runs of a plan.

    Args:
        plan: some of its runs may not be finished.

    Returns:
        As ``results.json`` has it: ``title``, ``protocol`` in words and numbers, ``columns`` (the
        keys reported, by heading), ``baseline``, ``detector`` (of head-only sweeps, its
        evaluation), ``missing`` (titles of unfinished runs), ``hardware`` and ``versions`` of the
        runs, and ``variants``: for each its ``label``, ``set``, ``published`` numbers, ``runs``
        (seed, values by column, steps), ``mean`` and ``std`` (sample standard deviation, ``None``
        for one seed) by column, and the ``difference`` of the first column from the baseline, see
        :func:`difference`; ``trained`` is ``False`` for a variant that is one evaluation, whatever
        the seed. ``comparable`` says whether the published numbers are of this protocol.
    """
    sweep = plan.sweep
    records = {run.digest: _record(run) for run in plan.runs if run.finished}
    variants = {}
    for variant in sweep.variants:
        runs = plan.variants[variant.name]
        values = {
            seed: _values(sweep.report, records[run.digest], plan.costs.get(variant.name))
            for seed, run in runs.items()
            if run.digest in records
        }
        trained = any(run.trains for run in runs.values())
        variants[variant.name] = {
            "label": variant.label,
            "set": variant.overrides,
            "published": variant.published,
            "runs": [
                {"seed": seed, "values": each, "steps": runs[seed].steps}
                for seed, each in values.items()
            ],
            "trained": trained,
            "mean": {column: _mean(values, column) for column in sweep.report},
            "std": {column: _std(values, column) if trained else None for column in sweep.report},
        }
    for name in variants:
        variants[name]["difference"] = difference(plan, name, variants)
    return {
        "title": sweep.title,
        "sweep": sweep.name,
        "hardware": ", ".join(sorted({record["hardware"] for record in records.values()})),
        "versions": next((record["versions"] for record in records.values()), None),
        "protocol": {
            "name": plan.protocol.name,
            "label": _label(plan),
            "head_only": plan.head_only,
            "base": plan.protocol.base,
            "seeds": list(plan.protocol.seeds),
            "description": describe(plan),
        },
        "published_source": sweep.published_source,
        "comparable": is_published_protocol(plan),
        "columns": sweep.report,
        "baseline": sweep.baseline,
        "detector": _detector(plan, records),
        "variants": variants,
        "missing": [run.title for run in plan.runs if run.digest not in records],
    }


def _label(plan: Plan) -> str:
    """The protocol in a few words, for headings."""
    name = plan.protocol.name
    kind = "full protocol" if name == FULL else f"quick protocol {name}"
    return f"{kind}, head only" if plan.head_only else kind


def is_published_protocol(plan: Plan) -> bool:
    """Whether the runs are trained and evaluated as those of the published numbers."""
    changed = plan.opts or any(plan.arguments.values())
    return plan.protocol.name == FULL and not plan.head_only and not changed


def difference(plan: Plan, name: str, variants: dict) -> dict | None:
    """How far a variant is from the baseline in the first column.

    Args:
        plan: of the sweep.
        name: of the variant.
        variants: with the values of their runs.

    Returns:
        ``mean`` of the differences between runs of the same seed; ``ci95``, its 95% confidence
        interval, and what that is ``over``: ``"seeds"``, by Student's t, or, in a protocol of one
        seed, ``"images"``, by paired bootstrap. Both are ``None`` if neither can be had; all is
        ``None`` for the baseline and where no seed has both.
    """
    column = next(iter(plan.sweep.report))
    if name == plan.sweep.baseline:
        return None
    ours, theirs = (
        {run["seed"]: run["values"][column] for run in variants[each]["runs"]}
        for each in (name, plan.sweep.baseline)
    )
    seeds = [seed for seed in ours if ours[seed] is not None and theirs.get(seed) is not None]
    if not seeds:
        return None
    differences = [ours[seed] - theirs[seed] for seed in seeds]
    if len(differences) > 1:
        return {
            "mean": statistics.fmean(differences),
            "ci95": student_interval(differences),
            "over": "seeds",
        }
    interval = None
    if len(plan.protocol.seeds) == 1 and plan.sweep.report[column] == "segm_mask_score/AP":
        runs = [plan.variants[each][seeds[0]] for each in (plan.sweep.baseline, name)]
        interval = _image_interval(*runs)
    return {"mean": differences[0], "ci95": interval, "over": "images" if interval else None}


def student_interval(values: list[float]) -> list[float]:
    """95% confidence interval of the mean of two or more values, by Student's t."""
    mean = statistics.fmean(values)
    quantile = float(student_t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return [mean - half, mean + half]


def _image_interval(baseline: Run, run: Run) -> list[float] | None:
    """By paired bootstrap over the images; ``None`` where predictions were deleted."""
    files = {
        name: each.folder / "inference" / "predictions.npz"
        for name, each in (("baseline", baseline), ("variant", run))
    }
    if not all(file.is_file() for file in files.values()):
        return None
    detections = {name: load_predictions(file) for name, file in files.items()}
    ground_truth = load_ground_truth(run.cfg.DATASETS.TEST[0])
    comparison = compare_detections(ground_truth, detections, **evaluation_settings(run.cfg))
    return comparison["gains"]["variant"]["ci95"]


def _record(run: Run) -> dict:
    path = run.folder / RESULT
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}): delete it, and the run is evaluated again"
        ) from error


def _values(report: dict[str, str], record: dict, cost: dict | None) -> dict[str, float | None]:
    values = {}
    for column, key in report.items():
        task, _, metric = key.partition("/")
        source = cost if task == "cost" else record["evaluation"][task]
        values[column] = (source or {}).get(metric)
    return values


def _column(values: dict[int, dict], column: str) -> list[float]:
    return [each[column] for each in values.values() if each[column] is not None]


def _mean(values: dict[int, dict], column: str) -> float | None:
    numbers = _column(values, column)
    return statistics.fmean(numbers) if numbers else None


def _std(values: dict[int, dict], column: str) -> float | None:
    numbers = _column(values, column)
    return statistics.stdev(numbers) if len(numbers) > 1 else None


def _detector(plan: Plan, records: dict[str, dict]) -> dict | None:
    if plan.detector is None or plan.detector.digest not in records:
        return None
    evaluation = records[plan.detector.digest]["evaluation"]
    tasks = ("bbox", "segm_box_score", "segm_oracle")
    return {"steps": plan.detector.steps, **{task: evaluation[task] for task in tasks}}
