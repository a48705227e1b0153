"""A trained model that takes images of any size."""

import logging
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.data.transforms import AugInput, AugmentationList, ResizeShortestEdge
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from PIL import Image

from ..config_by_key import flatten
from ..data.image_values import EIGHT_BITS, picture_problem
from ..engine import load_with_its_scores, prepare_model_config
from ..engine.device import inference_dtype
from ..engine.hashing import json_digest, weights_digest
from ..engine.model_classes import class_names
from ..errors import UserError
from ..evaluation.inference import rescale_boxes
from ..modeling.fast_inference import speed_up
from ..modeling.meta_architecture import check_rcnn
from ..modeling.test_time_augmentation import MaskScoringRCNNWithTTA
from .image_input import ImageInput, as_picture
from .image_prediction import Prediction

logger = logging.getLogger(__name__)


class Predictor:
    """A trained model that takes images of any size.

    Attributes:
        cfg: the config of the model.
        model: the Detectron2 model, in evaluation mode and made faster, see
            :func:`msrcnn.modeling.fast_inference.speed_up`.
        class_names: names by class index; empty if they are not known.
    """

    def __init__(
        self,
        weights: str | Path,
        *,
        config_file: str | Path | None = None,
        device: str | None = None,
        dtype: str | None = None,
        trust_weights: bool = False,
    ):
        """
        Args:
            weights: checkpoint of a training, e.g. ``output/model_final.pth``, or an export; the
                folder of one; or the name of a model in Detectron2's model zoo, e.g.
                ``COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x``, which is downloaded and has box
                scores, but no mask scores. With ``config_file`` also a URL. A checkpoint of a
                training whose mask scores are not fitted yet has box scores only.
            config_file: config of the model, a path or a name of ours such as
                ``COCO-InstanceSegmentation/ms_rcnn_R_50_FPN_1x.yaml``; by default the file beside
                the weights: ``W.yaml`` of an export ``W.pth``, or else the ``config.yaml`` of a
                training.
            device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; by default that of the config
                if the machine has it, or else the CPU.
            dtype: the number format that the model computes in: ``"float32"``, ``"bfloat16"``, or
                on a GPU ``"float16"``; by default ``TEST.DTYPE`` of the config.
            trust_weights: load weights that are not plain data, and run the code in them.

        Raises:
            UserError: if the config or the weights are missing or do not fit each other.
        """
        cfg = prepare_model_config(str(weights), str(config_file or ""), device=device, dtype=dtype)
        check_rcnn(cfg, f"prediction with '{weights}'")
        self.cfg: CfgNode
        self.model: GeneralizedRCNN
        self.cfg, self.model = load_with_its_scores(cfg, trust_weights=trust_weights)
        self._weights = weights_digest(self.model.state_dict())  # the same on any machine
        speed_up(self.model, inference_dtype(self.cfg))
        self._augmented = (
            MaskScoringRCNNWithTTA(self.cfg, self.model, postprocess=rescale_boxes)
            if self.cfg.TEST.AUG.ENABLED
            else None
        )
        self.class_names = class_names(self.cfg)
        self._format, self._value_range = self.cfg.INPUT.FORMAT, tuple(self.cfg.INPUT.VALUE_RANGE)
        self._warned: set[str] = set()
        sizes = (self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST)
        self._resize = AugmentationList([ResizeShortestEdge(*sizes)])

    @overload
    def __call__(self, images: ImageInput) -> Prediction: ...

    @overload
    def __call__(self, images: list[Any] | tuple[ImageInput, ...]) -> list[Prediction]: ...

    def __call__(
        self, images: ImageInput | list[Any] | tuple[ImageInput, ...]
    ) -> Prediction | list[Prediction]:
        """Detects objects.

        Args:
            images: an image, see :func:`~.image_input.as_picture`, or a list of images, which the
                model gets as one batch. A batch is padded to its largest image, so that the
                results of the smaller ones depend a little on it.

        Returns:
            The prediction, or a list with one for each image.

        Raises:
            UserError: if an image cannot be read, or is so narrow that nothing is left of it at
                the model's size.
        """
        if isinstance(images, (list, tuple)):
            return self._predict([self._picture(image) for image in images])
        return self._predict([self._picture(images)])[0]

    def identity(self) -> dict[str, str]:
        """Returns hashes of what predictions depend on: ``weights`` and ``config``."""
        parts = ("MODEL.", "INPUT.", "TEST.", "DATASETS.CLASS_NAMES")
        config = {
            key: value
            for key, value in flatten(self.cfg).items()
            if key.startswith(parts) and key != "MODEL.WEIGHTS"
        }
        return {"weights": self._weights[:16], "config": json_digest(config)[:16]}

    def _picture(self, image: ImageInput) -> Image.Image:
        def look(values: np.ndarray | None) -> None:
            if self._value_range and (found := picture_problem(values, self._value_range)):
                self._warn(image, *found)

        return as_picture(image, self._value_range, look)

    def _warn(self, image: ImageInput, kind: str, problem: str) -> None:
        """Warns of each file, but only once of images of 8 bits, and of arrays with one problem:
        the frames of a video are alike.
        """
        is_file = isinstance(image, (str, Path))
        key = f"{kind} {image}" if is_file and kind != EIGHT_BITS else kind
        if key not in self._warned:
            self._warned.add(key)
            name = f"image '{image}'" if is_file else "an image"
            once = " (others like it are not named)" if key == kind else ""
            logger.warning("%s %s%s", name, problem, once)

    @torch.no_grad()
    def _predict(self, pictures: list[Image.Image]) -> list[Prediction]:
        if not pictures:
            return []
        inputs = [self._input(picture) for picture in pictures]
        return [
            Prediction(convert_PIL_to_numpy(picture, "RGB"), found.to("cpu"), self.class_names)
            for picture, found in zip(pictures, self._detect(inputs))
        ]

    def _detect(self, inputs: list[dict]) -> list[Instances]:
        """Returns the detections at the size of each image, with masks in their boxes."""
        if self._augmented:
            return [output["instances"] for output in self._augmented(inputs)]
        detections = self.model.inference(inputs, do_postprocess=False)
        return [
            rescale_boxes(found, image["height"], image["width"])
            for image, found in zip(inputs, detections)
        ]

    def _input(self, picture: Image.Image) -> dict:
        """Returns the input of the model, as the mapper makes it from a file."""
        width, height = picture.size
        resized = AugInput(convert_PIL_to_numpy(picture, self._format))
        try:
            self._resize(resized)
        except ValueError as error:
            raise UserError(f"an image of {width} x {height} cannot be resized: {error}") from error
        image = torch.as_tensor(np.array(resized.image.transpose(2, 0, 1)))
        return {"image": image, "height": height, "width": width}
