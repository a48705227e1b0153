"""Tables of the model zoo, from the records in docs/results and the published results.

The functions print Markdown for cog, as those of :mod:`tables`.
"""

from statistics import fmean

from claim_tables import FITTED, claims
from tables import ap, number, print_table, record

from msrcnn import get_config
from msrcnn.published.numbers import published_by_config, published_training

DETECTORS = {
    "shapes": "MS R-CNN, R-18 GN",
    "nuclei": "MS R-CNN, R-18 GN",
    "animals": "MS R-CNN, MobileNetV2",
    "ccp": "MS R-CNN, MobileNetV2",
}
# Name, config and record of the models that were trained once.
ONCE = [
    ("R-18 GN + fitted head (demo)", "quick/shapes_ms_rcnn_R_18_FPN_fitted", "demo"),
    ("Mask R-CNN, R-18 GN", "quick/nuclei_mask_rcnn_R_18_FPN", "nuclei_mask_rcnn"),
    ("+ head on proposals", "finetune/nuclei_maskiou_head_R_18_FPN", "nuclei_maskiou_head"),
]
WITH_FIT = "+ fitted head"


def model_zoo() -> None:
    """The models that were trained here, in the form of Detectron2's model zoo."""
    found = claims()
    rows = [_trained_once(*model) for model in ONCE]
    for data in DETECTORS:
        rows += _of_claim(data, found[data])
    print_table(
        [
            *("Name", "dataset", "seeds", "iterations", "train time (s/iter)"),
            *("inference time (s/im)", "box AP", "by mask score", "mask AP by box score"),
            *("by mask score", "hardware", "record"),
        ],
        rows,
    )


def _trained_once(name: str, config: str, key: str) -> list[str]:
    found = record(key)
    metrics, training = found["evaluation"], found.get("training")
    return [
        f"[{name}](../configs/{config}.yaml)",
        config.split("/")[1].split("_")[0],
        "1",
        f"{training['steps']:,}" if training else "-",
        number(training["seconds_per_step"]) if training else "-",
        number(metrics["seconds"]["inference"] / metrics["images"]),
        *ap(metrics, "bbox", "bbox_mask_score", "segm_box_score", "segm_mask_score"),
        found["hardware"],
        f"[{key.split('/')[-1]}](results/{key}.json)",
    ]


def _of_claim(data: str, found: dict) -> list[list[str]]:
    """Returns the rows of a dataset's detectors with the joint head, and with the fitted one."""
    config = f"reproduce/{data}"
    times = found["detector_times"].values()
    seconds = [
        number(fmean(each[key] for each in times))
        for key in ("seconds_per_step", "seconds_per_image")
    ]
    iterations = get_config(f"{config}.yaml").SOLVER.MAX_ITER
    of_detector = {
        "joint": (DETECTORS[data], f"{iterations:,}", *seconds),
        FITTED: (WITH_FIT, *"---"),
    }
    rows = []
    for variant, (label, *cells) in of_detector.items():
        means = found["variants"][variant]["mean"]
        columns = ("box AP", "box AP by mask score", "AP by box score", "AP")
        rows.append(
            [
                f"[{label}](../configs/{config}.yaml)",
                *(data, str(len(found["protocol"]["seeds"])), *cells),
                *(number(means[column]) for column in columns),
                found["hardware"],
                f"[claim/{data}](results/claim/{data}/results.json)",
            ]
        )
    return rows


def published() -> None:
    """Published results of the COCO models, by config."""
    rows = []
    for config, results in published_by_config().items():
        training = published_training(config)
        cfg = get_config(results[0].config_file)
        rows.append(
            [
                f"[{config}](../configs/{results[0].config_file})",
                f"{cfg.SOLVER.MAX_ITER:,}",
                f"{training.seconds:.3f}" if training else "-",
                f"{training.memory}" if training else "-",
                "; ".join(map(str, results)),
            ]
        )
    headers = ["config", "iterations of 16 images", "train time (s/iter)", "train memory (GB)"]
    print_table([*headers, "published mask AP / box AP"], rows)
