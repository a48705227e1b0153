"""Checks that the datasets that a config names are on disk."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..errors import UserError
from .custom import is_custom_dataset, parse_data_flag


def check_datasets(names: Iterable[str]) -> None:
    """Checks that registered datasets are on disk.

    Args:
        names: names in Detectron2's ``DatasetCatalog``.

    Raises:
        UserError: if a name is unknown, or its annotation file or image folder is missing.
    """
    known = DatasetCatalog.list()
    for name in names:
        if name not in known:
            if is_custom_dataset(name):
                parse_data_flag(name)  # says what is missing
            if Path(name).is_file():
                raise UserError(f"'{name}' is a file: give its image folder too, ANN.json:IMAGES")
            near = ", ".join(difflib.get_close_matches(name, known, cutoff=0))
            raise UserError(f"no dataset '{name}' is registered; nearest: {near}")
        metadata = MetadataCatalog.get(name)
        for path in (metadata.get("json_file"), metadata.get("image_root")):
            if path is not None and "://" not in path and not Path(path).exists():
                raise UserError(
                    f"dataset '{name}': '{path}' does not exist. Set DETECTRON2_DATASETS to the "
                    "folder of datasets, or create the dataset: datasets/README.md says how"
                )
