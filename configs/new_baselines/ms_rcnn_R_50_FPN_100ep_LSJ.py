"""Mask scoring on Detectron2's long-schedule baseline: 100 epochs, large-scale jitter."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L

from msrcnn.data.mapper import MaskScoringDatasetMapper
from msrcnn.evaluation import MaskScoringEvaluator
from msrcnn.lazy import add_mask_scoring

_baseline = model_zoo.get_config("new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py")
dataloader = _baseline.dataloader
lr_multiplier = _baseline.lr_multiplier
model = _baseline.model
optimizer = _baseline.optimizer
train = _baseline.train

add_mask_scoring(model)

# Areas of the instances are computed by the data workers, not in the training step.
dataloader.train.mapper._target_ = MaskScoringDatasetMapper
# Detectron2's evaluator ranks masks by the box score alone.
dataloader.evaluator = L(MaskScoringEvaluator)(
    dataset_name="${..test.dataset.names}", output_dir="${train.output_dir}"
)
