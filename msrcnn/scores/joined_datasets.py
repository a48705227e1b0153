"""Several training datasets as one, for a fit: their images and categories share ids."""

from detectron2.data import get_detection_dataset_dicts

from ..evaluation import load_ground_truth
from ..evaluation.ground_truth import index_dataset
from ..evaluation.mask_quality import LVIS_LISTS


class JoinedDatasets:
    """Training datasets with the same classes, joined under new, consecutive image ids.

    A single dataset keeps its ids.

    Attributes:
        ground_truth: annotations of all images, with the category ids of the first dataset.
    """

    def __init__(self, names: list[str]):
        """
        Args:
            names: names of registered datasets, with the same class names.
        """
        self._names = names
        truths = [load_ground_truth(name) for name in names]
        self._image_ids: list[dict[int, int]] = []  # new id by the dataset's, for each dataset
        if len(names) == 1:
            (self.ground_truth,) = truths
            self._image_ids.append({image_id: image_id for image_id in self.ground_truth.imgs})
            return
        first = {category["name"]: category["id"] for category in truths[0].cats.values()}
        images, annotations = [], []
        for truth in truths:
            start = len(images)
            new_ids = {old: start + n for n, old in enumerate(sorted(truth.imgs), start=1)}
            self._image_ids.append(new_ids)
            categories = {each["id"]: first[each["name"]] for each in truth.cats.values()}
            for image in truth.dataset["images"]:
                lists = {
                    key: [categories[c] for c in image[key]] for key in LVIS_LISTS & set(image)
                }
                images.append({**image, **lists, "id": new_ids[image["id"]]})
            for annotation in truth.dataset["annotations"]:
                changed = {
                    "id": len(annotations) + 1,
                    "image_id": new_ids[annotation["image_id"]],
                    "category_id": categories[annotation["category_id"]],
                }
                annotations.append({**annotation, **changed})
        self.ground_truth = index_dataset(
            {
                "images": images,
                "annotations": annotations,
                "categories": truths[0].dataset["categories"],
            }
        )

    def images(self) -> list[dict]:
        """Returns the images as Detectron2's dataset dicts, with the ids of ``ground_truth``."""
        return [
            {**image, "image_id": new_ids[image["image_id"]]}
            for name, new_ids in zip(self._names, self._image_ids)
            for image in get_detection_dataset_dicts(
                name, filter_empty=False, check_consistency=False
            )
        ]
