"""How to reproduce published results: commands, expected time and memory."""

from tabulate import tabulate

from ..config import REFERENCE_BATCH, get_config
from .numbers import FOLDER, published_by_config, published_training

GPUS = 8  # of the published times
IMAGES_PER_GPU = REFERENCE_BATCH // GPUS


def reproduction_plan(num_gpus: int) -> str:
    """Returns the commands that train the published models, and what they cost, as text.

    Times are computed from the number of iterations and Detectron2's published time per iteration.
    With fewer GPUs, each still trains as many images per iteration, and ``SOLVER.AUTO_SCALE``
    multiplies the iterations.

    Args:
        num_gpus: number of GPUs.
    """
    rows = []
    for config, results in published_by_config().items():
        iterations = get_config(results[0].config_file).SOLVER.MAX_ITER * GPUS // num_gpus
        training = published_training(config)
        rows.append(
            [
                config,
                f"{iterations:,}",
                f"{iterations * training.seconds / 3600:.0f} h" if training else "-",
                f"{training.memory} GB" if training else "-",
                "; ".join(map(str, results)),
            ]
        )
    table = tabulate(
        rows,
        ["CONFIG", "iterations", "time", "memory per GPU", "published mask AP / box AP"],
        disable_numparse=True,
        colalign=("left", "right", "right", "right", "left"),
    )
    scale = ""
    if num_gpus != GPUS:
        scale = f" SOLVER.IMS_PER_BATCH {IMAGES_PER_GPU * num_gpus} SOLVER.AUTO_SCALE True"
    train = f"msrcnn train --num-gpus {num_gpus} --config-file configs/{FOLDER}/CONFIG.yaml"
    gpus = f"{num_gpus} GPU{'s' * (num_gpus > 1)}"
    return f"""{gpus}, {IMAGES_PER_GPU * num_gpus} images per iteration:

  {train}{scale} OUTPUT_DIR output/CONFIG
  msrcnn compare output/CONFIG

{table}

Time and memory are those of Mask R-CNN on V100 GPUs, from Detectron2's model zoo; the MaskIoU head
of ms_rcnn_* adds to them. "-": not published. AP is as published, not measured here."""
