from detectron2.data import DatasetCatalog, MetadataCatalog

import msrcnn.data
from msrcnn.data.datasets import datasets_root


def test_datasets_are_registered_under_the_datasets_root():
    msrcnn.data.register_datasets()  # registering them again is not an error
    for name, annotations in (
        ("shapes_val", "shapes/annotations/instances_val.json"),
        ("nuclei_train", "nuclei/train.json"),
        ("ccp_train", "ccp/train.json"),
        ("animals_val", "animals/val.json"),
    ):
        assert name in DatasetCatalog.list()
        assert MetadataCatalog.get(name).json_file == str(datasets_root() / annotations)
