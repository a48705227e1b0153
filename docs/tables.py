"""Tables and sentences of the documentation, from the records in docs/results.

The Markdown files call these functions in cog blocks: ``make format`` fills the blocks in, and the
tests check that they are up to date.
"""

import json
import math
import statistics
from pathlib import Path

from msrcnn.benchmark import evaluation_speed as speed_benchmark
from msrcnn.benchmark import fit_time as fit_benchmark
from msrcnn.benchmark import inference_time, loader_time, soft_nms_time, target_time, training_step
from msrcnn.evaluation import metrics_table
from msrcnn.published.numbers import TRAIN_IMAGES, published_training

RESULTS = Path(__file__).parent / "results"
MASK_AP = ("segm_box_score", "segm_mask_confidence", "segm_mask_score")


def record(name: str) -> dict:
    """Returns ``docs/results/NAME.json``."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def evaluation(name: str) -> dict:
    """Returns the ``evaluation.json`` in a record."""
    return record(name)["evaluation"]


def print_table(headers: list[str], rows: list[list[str]]) -> None:
    """Prints a Markdown table."""
    for cells in (headers, ["---"] * len(headers), *rows):
        print(f"| {' | '.join(cells)} |")


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def ap(found: dict, *rankings: str) -> list[str]:
    """Returns cells with the AP under each ranking."""
    # Old records have fewer rankings.
    return [number((found.get(ranking) or {}).get("AP")) for ranking in rankings]


def gain(delta: dict) -> str:
    """Returns a cell with a gain and its interval, if there is one."""
    interval = " [{:+.2f}, {:+.2f}]".format(*delta["ci95"]) if delta["ci95"] else ""
    return f"{delta['AP']:+.2f}{interval}"


def gain_in_words(delta: dict) -> str:
    low, high = delta["ci95"] or (None, None)
    bounds = f" (95% interval over images {low:+.2f} to {high:+.2f})" if delta["ci95"] else ""
    return f"{delta['AP']:+.2f} mask AP over the box score{bounds}"


def demo() -> None:
    """What the demo prints."""
    found = record("demo")
    assert found["command"] == "make demo"
    print(f"```\n{metrics_table(found['evaluation'])}\n```\n")
    print(f"The mask score gains {gain_in_words(found['evaluation']['delta'])}:")
    print(f"[docs/results/demo.json](docs/results/demo.json), {found['hardware']}.")


def demo_seeds() -> None:
    """The demo with three seeds, on its validation images and on fresh ones."""
    rows = []
    for seed in (1, 2, 3):
        cells = [str(seed)]
        for name in (f"scores/shapes_seed{seed}", f"scores/shapes_fresh_seed{seed}"):
            found = evaluation(name)
            cells += [*ap(found, *MASK_AP), gain(found["delta"])]
        rows.append(cells)
    columns = ["by box score", "by mask confidence", "by fitted head", "gain"]
    headers = ["seed", f"200 images: {columns[0]}", *columns[1:]]
    print_table([*headers, f"800 images: {columns[0]}", *columns[1:]], rows)


def fresh_fits() -> None:
    """Fits to all training images of shapes, on 800 fresh images."""
    labels = {
        "matched": "paper's head, detections with an instance",
        "defaults": "defaults of `msrcnn fit-scores`",
    }
    rows = []
    for name, seed in (("matched", 1), ("defaults", 1), ("defaults", 2), ("defaults", 3)):
        found = evaluation(f"scores/shapes_fresh_{name}_seed{seed}")
        pearson = (number(found["maskiou"][key]) for key in ("pearson", "pearson_all"))
        rows.append([labels[name], str(seed), *ap(found, *MASK_AP), gain(found["delta"]), *pearson])
    headers = ["fit", "seed", "by box score", "by mask confidence", "by fitted head", "gain"]
    print_table([*headers, "Pearson, matched", "Pearson, all"], rows)


def few_images() -> None:
    """Fits to few images: more views, and images that the detector has not seen."""
    labels = {
        "again_fitted": "one view (default)",
        "flip2": "two views, the second mirrored",
        "views4": "four views, mirrored and resized",
        "half_seen": "detector of one half, fitted to that half",
        "half_unseen": "detector of one half, fitted to the other half",
    }
    rows = []
    for name, label in labels.items():
        found = evaluation(f"scores/animals_{name}")
        rows.append([label, *ap(found, *MASK_AP), gain(found["delta"])])
    print_table(["fit", "by box score", "by mask confidence", "by fitted head", "gain"], rows)


def half_compared() -> None:
    """How much a fit to images that the detector has not seen is ahead of one to those it has."""
    (gain,) = evaluation("scores/animals_half_compared")["gains"].values()
    print(
        "  The second fit is ahead by {:+.2f} mask AP [{:+.2f}, {:+.2f}].".format(
            gain["AP"], *gain["ci95"]
        )
    )


def within_training() -> None:
    """What training on detections within the training gains."""
    delta = evaluation("scores/shapes_within_training")["delta"]
    print("On shapes, 600 iterations with `zero` and `DETECTIONS_FROM 200` gain")
    print(f"{gain_in_words(delta)}, less than the fits above")


SPEED = {
    "training": training_step,
    "inference": inference_time,
    "inference_bf16": inference_time,
    "soft_nms": soft_nms_time,
    "target": target_time,
    "loader": loader_time,
    "loader_bitmask": loader_time,
    "loader_bitmask_before": loader_time,
}


def speed(name: str) -> None:
    """A benchmark's table, with the record, the hardware and the command."""
    key = f"speed_{name}"
    found = record(key)
    command = found["command"].replace(f" --json docs/results/{key}.json", "")
    print(SPEED[name].table(found))
    print(f"\n{found['hardware']}, [results/{key}.json](results/{key}.json), `{command}`.")


def inference_with_scores() -> None:
    """The time of an inference with mask scores, compared with Detectron2's without."""
    found = record("speed_inference")
    ratios = found["ratios"]
    added, ours = ratios["mask scores"]["median"] - 1, ratios["msrcnn / Detectron2"]["median"]
    print(f"The MaskIoU head adds {added:.0%} to the inference time of R-50 FPN. The commands and")
    print("`Predictor` run networks faster, which saves more than that: with mask scores, they")
    print(f"take {ours:.2f} of the time of Detectron2's Mask R-CNN without mask scores (fp32,")
    print(f"{found['hardware']}; [docs/speed.md](docs/speed.md)).")


def bfloat16() -> None:
    """AP of the same models in float32 and in bfloat16, evaluated on the same images."""
    rows = []
    for data in ("shapes", "animals"):
        differences = []
        for seed in (1, 2, 3):
            name = f"scores/{data}_bfloat16_seed{seed}"
            found = evaluation(name)
            both = [each["segm_mask_score"]["AP"] for each in found["evaluations"].values()]
            (delta,) = found["gains"].values()
            differences.append(delta["AP"])
            link = f"[{data}, seed {seed}](results/{name}.json)"
            rows.append([link, *(number(each) for each in both), gain(delta)])
        mean = statistics.fmean(differences)
        rows.append([f"{data}, mean", "", "", f"{mean:+.2f}"])
    headers = ["mask AP by mask score", "float32", "bfloat16", "difference"]
    print_table(headers, rows)


def rle_bound() -> None:
    """What the encoding of masks can save of an inference up to RLE, at most."""
    found = record("evaluation")["sizes"][2]
    stock, ours = found["stock"]["seconds"], found["ours"]["seconds"]
    pasted = (stock["paste"] + stock["encode"]) / found["images"]
    saved = pasted - ours["encode"] / found["images"]
    inference = statistics.median(record("speed_inference")["seconds"]["mask r-cnn"])
    print(f"Detectron2 pastes and encodes the 100 masks of a COCO image in {pasted * 1e3:.0f} ms")
    print("([evaluation.md](evaluation.md#speed-and-memory-compared-with-detectron2)), of which")
    print(f"our encoding saves {saved * 1e3:.0f} ms: {saved / inference:.1%} of the inference.")


def calibration() -> None:
    """What a threshold of 0.5 shows on validation data, by each score."""
    rows = []
    for name in ("shapes", "animals", "nuclei"):
        found = record(f"calibration_{name}")
        link = f"[{name}](results/calibration_{name}.json)"
        for score, each in found["scores"].items():
            right = f"{each['shown_right'] / each['shown']:.0%}"
            of_all = f"{each['shown_right'] / found['right']:.0%}"
            cells = [score, f"{each['calibration_error']:.3f}", right, of_all]
            rows.append([link, *cells])
            link = ""
    headers = ["validation data", "score", "calibration error"]
    print_table([*headers, "precision from 0.5", "recall"], rows)


def outcomes() -> None:
    """Targets and predictions, written down before the measurements, beside the outcomes."""
    found = record("speed_inference")["ratios"]
    in_bfloat16 = record("speed_inference_bf16")["ratios"]["msrcnn / Detectron2 in fp32"]
    (step,) = record("speed_training")["loads"]
    memory = step["memory_mib"]
    evaluated = record("evaluation")["sizes"][2]["speedup"]["total"]
    soft_nms = record("speed_soft_nms")["loads"]
    few, loop = soft_nms[soft_nms_time.FEW], soft_nms[soft_nms_time.ALL]["to_loop"]["median"]
    rows = [
        ["inference, MS / Detectron2's Mask R-CNN", "1.08", "0.92", found["msrcnn / Detectron2"]],
        ["the same network with and without the head", "-", "1.12", found["mask scores"]],
        ["the same network, lite head", "1.01", "1.01", found["mask scores of the lite head"]],
        ["inference in bfloat16, MS / Detectron2's in fp32", "-", "-", in_bfloat16],
        ["inference, Soft-NMS / NMS", "1.10", "-", found["Soft-NMS instead of NMS"]],
        ["to RLE, ours / Detectron2's", "0.9", "0.95", found["msrcnn / Detectron2, to RLE"]],
        [
            "ours to RLE / torchvision's to pasted masks",
            "0.9",
            "1.0",
            found["msrcnn / torchvision, to masks"],
        ],
        [
            "training step, MS / Mask R-CNN",
            "1.05",
            "1.17",
            step["ratios"][training_step.RATIOS[0][0]],
        ],
        *(
            [f"training step, {name} / target_class", "1.3", "1.1", step["ratios"][label]]
            for label, name, _ in training_step.RATIOS[3:]
        ),
    ]
    cells = [[*row[:3], f"{row[3]['median']:.2f}"] for row in rows]
    more = memory[training_step.PROPOSALS] / memory[training_step.STOCK]
    cells.append(["memory of a training step", "1.10", "1.13", f"{more:.2f}"])
    target = record("speed_target")
    for label, way, least in (
        ("MaskIoU target, times faster than clipping", "clipping", "10"),
        ("MaskIoU target, times faster than cropping", "cropping", "25"),
    ):
        cells.append([label, f"at least {least}", "-", f"{target[way]['median']:.1f}"])
    candidates = f"Soft-NMS, operators for {few['candidates']} candidates"
    cells += [
        ["Soft-NMS, times faster than a plain loop", "at least 20", "-", f"{1 / loop:.1f}"],
        [candidates, "900", "-", str(few["operators"])],
        ["evaluation, times faster than stock", "at least 6", "-", f"{evaluated:.1f}"],
        ["memory of an evaluation, MiB per image", "0.15", "-", f"{evaluation_mib():.2f}"],
    ]
    print_table(["what", "target (at most)", "predicted", "measured"], cells)


def loading() -> None:
    """How many workers the loader needs for Detectron2's published training speed."""
    training = published_training("mask_rcnn_R_50_FPN_1x")
    needed = 16 / 8 / training.seconds
    each = record("speed_loader")["images_per_second"]
    workers = math.ceil(needed / each)
    print(f"Detectron2's model zoo trains R-50 FPN with {training.seconds} s for 16 images on 8")
    print(f"V100 GPUs, that is, with {needed:.1f} images per second and GPU. On such cores,")
    print(f"this takes {workers} worker{'s' * (workers > 1)} per GPU.")


def evaluation_speedup() -> None:
    found = record("evaluation")["sizes"][2]
    ours, stock = found["ours"]["seconds"], found["stock"]["seconds"]
    printed = sum(stock.values()) / (sum(ours.values()) - ours["bootstrap"])
    total, bootstrap = found["speedup"]["total"], ours["bootstrap"] / ours["metrics"]
    print(
        f"On {found['images']:,} images, the table is printed {printed:.1f} times sooner than with"
    )
    print(
        f"Detectron2, and the complete evaluation is {total:.1f} times faster. The bootstrap takes"
    )
    print(f"{bootstrap:.1f} times as long as the metrics.")


def evaluation_mib() -> float:
    """The memory that an evaluation takes for each image, from its two largest sizes."""
    small, large = record("evaluation")["sizes"][1:3]
    more = large["ours"]["peak_mib"] - small["ours"]["peak_mib"]
    return more / (large["images"] - small["images"])


def evaluation_memory() -> None:
    print("Between 1,000 and 5,000 images, the memory of our evaluation grows by")
    print(f"{evaluation_mib():.2f} MiB per image with 100 detections.")


EPOCHS = 12  # about the 1x schedule
# Images with annotated masks in the training set, as published.
DATASETS = {"COCO": TRAIN_IMAGES, "Open Images V5": 944_037, "a million images": 1_000_000}


def scale() -> None:
    """Time of training and memory of evaluation, computed."""
    seconds = published_training("mask_rcnn_R_50_FPN_1x").seconds / 16
    rows = [
        [
            name,
            f"{images:,}",
            f"{images * EPOCHS * seconds / 3600:,.0f} h",
            f"{images * evaluation_mib() / 1024:,.0f} GiB",
        ]
        for name, images in DATASETS.items()
    ]
    headers = ["training images", "number", f"{EPOCHS} epochs on 8 V100"]
    print_table([*headers, "memory to evaluate as many"], rows)


def fit_time() -> None:
    """What pass and fit cost on COCO, computed from measured times."""
    found = record("fit_time")
    image, iteration = (
        statistics.median(found[key]) for key in ("image_seconds", "iteration_seconds")
    )
    ratio = iteration / image
    print(fit_benchmark.table(found))
    print("\nThe hours are computed from the measured times")
    print("([results/fit_time.json](results/fit_time.json), made by `tools/benchmark.py fit`). An")
    print(f"iteration costs as much as {ratio:.2f} images of the pass,")
    print(f"and the fit as much as {found['iterations'] * ratio:.0f} images.")


def evaluation_speed() -> None:
    print(f"```\n{speed_benchmark.table(record('evaluation'))}\n```")


def added_head() -> None:
    """A MaskIoU head that is trained on proposals, with everything else frozen."""
    plain, added = record("nuclei_mask_rcnn"), record("nuclei_maskiou_head")
    before, after = plain["evaluation"], added["evaluation"]
    for key in ("bbox", "segm_box_score", "segm_oracle"):
        assert before[key] == after[key]
    rows = []
    for name, run in (("Mask R-CNN", plain), ("mask scoring added", added)):
        training = run["training"]
        minutes = training["steps"] * training["seconds_per_step"] / 60
        aps = ap(run["evaluation"], "bbox", "segm_box_score", "segm_mask_score", "segm_oracle")
        rows.append([name, *aps, f"{training['steps']} steps, {minutes:.1f} minutes"])
    headers = ["", "box AP", "mask AP by box score", "by mask score", "by true MaskIoU"]
    print_table([*headers, "training"], rows)
    print("\nBox AP and mask AP by box score do not change. The mask score gains")
    print(f"{gain_in_words(after['delta'])}.")


def excludes_zero(interval: list[float] | None) -> bool:
    """Whether a difference is statistically significant; without an interval it is not."""
    return interval is not None and (interval[0] > 0 or interval[1] < 0)
