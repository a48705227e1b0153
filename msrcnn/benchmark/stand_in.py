"""Simulates a model: raw predictions close to the ground truth of a real dataset."""

import copy
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from pycocotools.coco import COCO

MASK_SIDE = 28
REPEAT_ID = 10_000_000  # added to an image id for each repetition


def repeat_dataset(content: dict, num_images: int) -> dict:
    """Repeats the images of a COCO dataset and their annotations with new ids.

    Args:
        content: content of an annotation file.
        num_images: number of images in the result.

    Returns:
        The content of the new annotation file.
    """
    images = sorted(content["images"], key=lambda image: image["id"])
    by_image = {image["id"]: [] for image in images}
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    repeated = {**content, "images": [], "annotations": []}
    for index in range(num_images):
        image = images[index % len(images)]
        new_id = image["id"] + index // len(images) * REPEAT_ID
        repeated["images"].append({**image, "id": new_id})
        for annotation in by_image[image["id"]]:
            number = len(repeated["annotations"]) + 1
            repeated["annotations"].append({**annotation, "id": number, "image_id": new_id})
    return repeated


class StandIn:
    """Returns raw detections of an image, like a Mask R-CNN before postprocessing.

    Half of the detections are instances of the image with shifted boxes and masks, where higher
    scores have smaller shifts. The others are instances of any image at random positions. All
    repetitions of an image have the same detections.
    """

    def __init__(self, annotation_file: Path, detections: int, seed: int = 0):
        """
        Args:
            annotation_file: annotation file of the original dataset, without repetitions.
            detections: number of detections per image.
            seed: random seed.
        """
        self._ground_truth = COCO(str(annotation_file))
        self._annotations = [a for a in self._ground_truth.anns.values() if not a["iscrowd"]]
        self._classes = {c: i for i, c in enumerate(sorted(self._ground_truth.cats))}
        self._detections, self._seed = detections, seed
        self._cache: dict[int, Instances] = {}

    def __call__(self, image_id: int) -> Instances:
        """Returns a copy of the N raw detections of an image, with masks of (N, 1, 28, 28)."""
        image_id %= REPEAT_ID
        if image_id not in self._cache:
            self._cache[image_id] = self._generate(image_id)
        return copy.deepcopy(self._cache[image_id])

    def _generate(self, image_id: int) -> Instances:
        rng = np.random.default_rng((self._seed, image_id))
        image = self._ground_truth.imgs[image_id]
        height, width = image["height"], image["width"]
        own = [a for a in self._annotations if a["image_id"] == image_id] or self._annotations
        scores = rng.random(self._detections)
        boxes, masks, classes = [], [], []
        for score in scores:
            here = rng.random() < 0.5
            candidates = own if here else self._annotations
            annotation = candidates[rng.integers(len(candidates))]
            x, y, w, h = annotation["bbox"]
            shift = rng.normal(scale=0.02 + 0.15 * (1 - score), size=4) * (w, h, w, h)
            masks.append(self._crop(annotation, np.array([x, y, x + w, y + h]) + shift))
            left, top = (x, y) if here else (rng.random() * width / 2, rng.random() * height / 2)
            box = np.array([left, top, min(left + w, width), min(top + h, height)])
            boxes.append(box + shift)
            classes.append(self._classes[annotation["category_id"]])
        instances = Instances((height, width))
        instances.pred_boxes = Boxes(torch.tensor(np.array(boxes), dtype=torch.float32))
        instances.pred_boxes.clip((height, width))
        instances.scores = torch.tensor(scores, dtype=torch.float32)
        instances.pred_classes = torch.tensor(classes)
        instances.pred_masks = torch.stack(masks)[:, None]
        instances.pred_maskiou = torch.tensor(rng.random(self._detections), dtype=torch.float32)
        instances.mask_scores = instances.scores * instances.pred_maskiou
        return instances

    def _crop(self, annotation: dict, box: np.ndarray) -> torch.Tensor:
        """Returns a soft mask like that of a mask head: the blurred ground truth in the box."""
        whole = torch.from_numpy(self._ground_truth.annToMask(annotation))[None].bool()
        box = torch.tensor(box, dtype=torch.float32)[None]
        crop = BitMasks(whole).crop_and_resize(box, MASK_SIDE).float()[:, None]
        blurred = torch.nn.functional.avg_pool2d(crop, 3, stride=1, padding=1)
        return torch.sigmoid(8 * (blurred - 0.5))[0, 0]
