from detectron2.data import DatasetCatalog, MetadataCatalog

import msrcnn.data
from msrcnn.data.datasets import datasets_root


def test_datasets_are_registered_below_the_folder_of_datasets():
    msrcnn.data.register_datasets()  # again: that it was done before is no error
    for name, annotations in (
        ("shapes_val", "shapes/annotations/instances_val.json"),
        ("nuclei_train", "nuclei/train.json"),
    ):
        assert name in DatasetCatalog.list()
        assert MetadataCatalog.get(name).json_file == str(datasets_root() / annotations)
