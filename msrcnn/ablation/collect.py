"""Collects the results of a sweep's finished runs."""

import statistics

from ..engine.evaluators import evaluation_settings
from ..engine.training_log import LOG, read_evaluations
from ..errors import UserError
from ..evaluation import (
    AP_LABELS,
    PER_CLASS,
    load_ground_truth,
    load_predictions,
    student_interval,
)
from ..evaluation.bootstrap import gain_interval
from ..evaluation.matching import match_detections
from ..evaluation.result_files import PREDICTIONS
from ..json_file import read_json_object
from .breakdown import breakdown
from .description import describe
from .plan import RESULT, Plan, Run
from .record_schema import record_problem
from .sweep import FULL

REPEAT = "delete it to repeat the run"  # what to do about a damaged result.json


def collect(plan: Plan) -> dict:
    """Collects the results of all finished runs of a plan.

    Args:
        plan: the plan of a sweep; some of its runs may not be finished.

    Returns:
        The content of ``results.json``: ``title``, ``protocol``, ``columns`` (the reported keys by
        heading), ``baseline``, ``detector`` (its evaluation, for head-only sweeps of one),
        ``learning_curves`` (of the detectors, by seed, see :func:`_learning_curve`),
        ``detector_times`` (by seed, see :func:`_times`), ``missing`` (titles of unfinished runs),
        ``hardware`` of the runs, ``versions`` of one of them and ``mixed_versions``, the names of
        those that are not the same for all, ``comparable`` (whether the published numbers have the
        same protocol), and for each of the ``variants`` its ``label``, ``set``, ``published``
        numbers, ``runs`` (seed, values by column, steps), ``mean`` and ``std`` by column (sample
        standard deviation, ``None`` for one seed, or for an evaluation that is the same run for
        every seed), ``difference``, see :func:`difference`, and ``breakdown``, see
        :func:`~.breakdown.breakdown`.
    """
    sweep = plan.sweep
    records = {run.digest: _read_record(run) for run in plan.runs if run.finished}
    values = {
        name: {
            seed: _values(plan, name, records[run.digest])
            for seed, run in runs.items()
            if run.digest in records
        }
        for name, runs in plan.variants.items()
    }
    detectors = dict.fromkeys(plan.detectors.values())
    changed = plan.head_only or plan.train_data or plan.val_data or plan.opts
    kind = "full protocol" if plan.protocol_name == FULL else f"quick protocol {plan.protocol_name}"
    return {
        "title": sweep.title,
        "sweep": sweep.path.stem,
        "hardware": ", ".join(sorted({record["hardware"] for record in records.values()})),
        "versions": next((record["versions"] for record in records.values()), None),
        "mixed_versions": _mixed([record["versions"] for record in records.values()]),
        "protocol": {
            "name": plan.protocol_name,
            "label": f"{kind}, head only" if plan.head_only else kind,
            "head_only": plan.head_only,
            "base": plan.protocol.base,
            "seeds": plan.protocol.seeds,
            "description": describe(plan),
        },
        "published_source": sweep.published_source,
        "comparable": plan.protocol_name == FULL and not changed,
        "columns": sweep.report,
        "baseline": sweep.baseline,
        "detector": _detector(plan, records),
        "learning_curves": {str(run.seed): _learning_curve(run) for run in detectors},
        "detector_times": {
            str(run.seed): _times(records[run.digest]) for run in detectors if run.digest in records
        },
        "variants": {name: _variant(plan, name, values, records) for name in plan.variants},
        "missing": [run.title for run in plan.runs if run.digest not in records],
    }


def _read_record(run: Run) -> dict:
    """Reads the ``result.json`` of a run.

    Raises:
        UserError: if it is damaged.
    """
    path = run.folder / RESULT
    record = read_json_object(path, REPEAT)
    if problem := record_problem(record):
        raise UserError(f"'{path}' is damaged ({problem}): {REPEAT}")
    return record


def _steps(run: Run, record: dict) -> int:
    """Returns the steps that a finished run took: those planned, unless it stopped early."""
    return record.get("training", {}).get("steps", run.steps)


def _mixed(versions: list[dict]) -> list[str]:
    """Returns what differs between the versions of the runs."""
    names = dict.fromkeys(name for each in versions for name in each)
    return [name for name in names if len({each.get(name) for each in versions}) > 1]


def _values(plan: Plan, name: str, record: dict) -> dict[str, float | None]:
    """Returns the values of a run by column; ``None`` where a column does not apply."""
    sources = {**record["evaluation"], "cost": plan.costs.get(name)}
    values = {}
    for column, key in plan.sweep.report.items():
        task, _, metric = key.partition("/")
        values[column] = (sources.get(task) or {}).get(metric)
    return values


def _variant(plan: Plan, name: str, values: dict, records: dict[str, dict]) -> dict:
    """Returns the results of a variant."""
    variant, runs = plan.sweep.variants[name], plan.variants[name]
    distinct = list({runs[seed].digest: runs[seed] for seed in values[name]}.values())
    mean, std = {}, {}
    for column in plan.sweep.report:
        numbers = [run[column] for run in values[name].values() if run[column] is not None]
        mean[column] = statistics.fmean(numbers) if numbers else None
        several = len(distinct) > 1 and len(numbers) > 1
        std[column] = statistics.stdev(numbers) if several else None
    return {
        "label": variant.label,
        "set": variant.overrides,
        "published": variant.published,
        "runs": [
            {
                "seed": seed,
                "values": run,
                "steps": _steps(runs[seed], records[runs[seed].digest]),
            }
            for seed, run in values[name].items()
        ],
        "mean": mean,
        "std": std,
        "difference": difference(plan, name, values),
        "breakdown": breakdown(
            [records[run.digest]["evaluation"] for run in distinct],
            [run.folder / PER_CLASS for run in distinct],
        ),
    }


def difference(plan: Plan, name: str, values: dict) -> dict | None:
    """Compares a variant with the baseline in the first column.

    Args:
        plan: the plan of a sweep.
        name: name of the variant.
        values: values of the finished runs by variant, seed and column.

    Returns:
        ``mean`` of the differences between runs with the same seed, and ``ci95``, its 95%
        confidence interval ``over`` either ``"seeds"`` (Student's t over distinct runs) or, for a
        protocol with one seed, ``"images"`` (paired bootstrap). Both are ``None`` if there is no
        interval. The result is ``None`` for the baseline, and if no seed is finished for both.
    """
    column, key = next(iter(plan.sweep.report.items()))
    baseline = plan.sweep.baseline
    pairs = {
        seed: (run[column], values[baseline][seed][column])
        for seed, run in values[name].items()
        if seed in values[baseline]
    }
    differences = {
        seed: ours - base for seed, (ours, base) in pairs.items() if None not in (ours, base)
    }
    if name == baseline or not differences:
        return None
    interval, over = None, None
    # An evaluation without training is the same run for every seed.
    runs, bases = plan.variants[name], plan.variants[baseline]
    pairs_of_runs = {(runs[seed].digest, bases[seed].digest) for seed in differences}
    if len(pairs_of_runs) > 1:
        interval, over = student_interval(list(differences.values())), "seeds"
    elif len(plan.protocol.seeds) == 1 and key == "segm_mask_score/AP":
        (seed,) = differences
        interval = _image_interval(plan.variants[baseline][seed], plan.variants[name][seed])
        over = interval and "images"
    return {"mean": statistics.fmean(differences.values()), "ci95": interval, "over": over}


def _image_interval(baseline: Run, run: Run) -> list[float] | None:
    """Returns the interval by paired bootstrap over images; ``None`` without predictions."""
    runs = {"baseline": baseline, "variant": run}
    files = {name: each.folder / PREDICTIONS for name, each in runs.items()}
    if not all(file.is_file() for file in files.values()):
        return None
    ground_truth = load_ground_truth(run.cfg.DATASETS.TEST[0])
    settings = evaluation_settings(run.cfg)
    if not settings.bootstrap:
        return None
    before, after = (
        match_detections(ground_truth, found, "segm", found.mask_score, settings.max_dets)
        for found in (load_predictions(file, ground_truth) for file in files.values())
    )
    return gain_interval(before, after, settings.bootstrap)


def _detector(plan: Plan, records: dict[str, dict]) -> dict | None:
    if plan.detector is None or plan.detector.digest not in records:
        return None
    if plan.detector.cfg.SOLVER.KEEP_BEST:  # the record is of the last weights, not of the best
        return None
    record = records[plan.detector.digest]
    tasks = ("bbox", "segm_box_score", "segm_oracle")
    return {
        "steps": _steps(plan.detector, record),
        **{task: record["evaluation"].get(task) for task in tasks},
    }


def _times(record: dict) -> dict[str, float | None]:
    """Returns the seconds per step of a detector's training, and per image of its evaluation."""
    found = record["evaluation"]
    seconds, images = found.get("seconds", {}).get("inference"), found.get("images")
    return {
        "seconds_per_step": record.get("training", {}).get("seconds_per_step"),
        "seconds_per_image": seconds / images if seconds and images else None,
    }


def _learning_curve(run: Run) -> list[dict]:
    """Returns the AP of a detector over its training: completed ``iteration``s, AP by ranking."""
    lines = read_evaluations(run.folder / LOG)
    # The last evaluation is logged under the number of iterations, the others under the iteration
    # counted from 0. A training that stopped early has evaluated its last iteration twice.
    last = lines[-1]["iteration"] if lines and run.finished else run.steps
    steps = {min(line["iteration"] + 1, last): line for line in lines}
    return [
        {"iteration": iteration}
        | {task: line[f"{task}/AP"] for task in AP_LABELS if f"{task}/AP" in line}
        for iteration, line in steps.items()
    ]
