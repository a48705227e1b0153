"""Which detections a cache of limited size keeps."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

WHOLE_SHARE = 0.25  # of a cache that cannot hold everything, for images that keep all detections


class Selection(NamedTuple):
    """What a part of a cache has kept of its detections.

    Attributes:
        left_out: number of detections that were left out.
        whole: ids of the images that keep all of their detections however many there are.
    """

    left_out: int
    whole: list[int]


@dataclass(frozen=True)
class CacheBudget:
    """Divides the size of a cache among images.

    If a cache cannot hold the detections of all images, some images, drawn at random, keep all
    detections of their first view, because AP and calibration can only be computed from complete
    images. Of the other images, detections are drawn at random. Draws depend only on the image and
    the view, because fits with different seeds share a cache.

    Attributes:
        max_bytes: size of the cache.
        images: number of images.
        views: number of views of each image.
        per_image: the most detections that an image can have.
    """

    max_bytes: int
    images: int
    views: int
    per_image: int

    def holds_all(self, size: int) -> bool:
        """Whether all detections, of ``size`` bytes each, have room."""
        return self.images * self.views * self.per_image * size <= self.max_bytes

    def is_whole(self, image_id: int, view: int, size: int) -> bool:
        """Whether an image keeps all of its detections, of ``size`` bytes each."""
        if self.holds_all(size):
            return True
        number = WHOLE_SHARE * self.max_bytes / (self.per_image * size)
        return view == 0 and np.random.default_rng(image_id).random() < number / self.images

    def draw(self, number: int, image_id: int, view: int, size: int) -> np.ndarray:
        """Returns the indices of the detections that an image keeps, in order.

        Args:
            number: number of its detections.
            image_id: id of the image.
            view: view of the image.
            size: bytes per detection.
        """
        if self.is_whole(image_id, view, size):
            return np.arange(number)
        rng = np.random.default_rng([image_id, view])
        share = (1 - WHOLE_SHARE) * self.max_bytes / (self.images * self.views * size)
        # The fraction is left to chance: with a share below 1, some images keep no detection.
        limit = int(share) + (rng.random() < share % 1)
        if number <= limit:
            return np.arange(number)
        return np.sort(rng.choice(number, limit, replace=False))
