import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.datasets import load_coco_json
from detectron2.data.samplers import TrainingSampler
from detectron2.structures import BitMasks, PolygonMasks
from PIL import Image

from msrcnn.data import MaskScoringDatasetMapper, TrainLoader
from msrcnn.error_report import report_errors


def mapped(cfg, records):
    mapper = MaskScoringDatasetMapper(cfg, True)
    return [mapper(record)["instances"] for record in records]


@pytest.fixture
def records(shapes_root):
    annotations = shapes_root / "annotations" / "instances_train.json"
    return load_coco_json(str(annotations), str(shapes_root / "train"))


def test_area_is_that_of_the_whole_instance(tiny_cfg, records):
    for instances in mapped(tiny_cfg, records):
        expected = instances.gt_masks.tensor.sum(dim=(1, 2)).float()
        assert torch.equal(instances.gt_mask_area, expected)


def test_polygons(tiny_cfg, coco_root):
    tiny_cfg.INPUT.MASK_FORMAT = "polygon"
    annotations = coco_root / "annotations" / "instances_val2017.json"
    coco = load_coco_json(str(annotations), str(coco_root / "val2017"))[:8]
    for instances in mapped(tiny_cfg, coco):
        if len(instances):
            assert isinstance(instances.gt_masks, PolygonMasks)
            # The shoelace formula counts overlaps twice, but most instances have none.
            ratio = instances.gt_mask_area / torch.as_tensor(instances.gt_masks.area()).float()
            assert ratio.median().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("mask_format", ["bitmask", "polygon"])
@pytest.mark.parametrize("crop", [False, True])
def test_image_without_annotations_has_every_field(tiny_cfg, records, mask_format, crop):
    tiny_cfg.INPUT.MASK_FORMAT = mask_format
    tiny_cfg.INPUT.CROP.ENABLED = crop
    crowd = {**records[0], "annotations": [{**records[0]["annotations"][0], "iscrowd": 1}]}
    for record in ({**records[0], "annotations": []}, crowd):
        (instances,) = mapped(tiny_cfg, [record])
        assert len(instances) == 0
        assert isinstance(
            instances.gt_masks, {"bitmask": BitMasks, "polygon": PolygonMasks}[mask_format]
        )
        assert instances.gt_mask_area.shape == (0,)


@pytest.mark.parametrize("mask_format", ["bitmask", "polygon"])
def test_random_crops(tiny_cfg, coco_root, mask_format):
    """Crops that contain only some, or none, of the instances of an image."""
    tiny_cfg.INPUT.MASK_FORMAT = mask_format
    tiny_cfg.INPUT.CROP.ENABLED = True
    tiny_cfg.INPUT.CROP.TYPE, tiny_cfg.INPUT.CROP.SIZE = "absolute", [80, 80]
    annotations = coco_root / "annotations" / "instances_val2017.json"
    coco = load_coco_json(str(annotations), str(coco_root / "val2017"))
    sizes = []
    for instances in mapped(tiny_cfg, coco[:12] * 4):
        masks = instances.gt_masks
        if mask_format == "polygon":
            masks = BitMasks.from_polygon_masks(masks, *instances.image_size)
        assert torch.equal(instances.gt_mask_area, masks.tensor.sum(dim=(1, 2)).float())
        sizes.append(len(instances))
    assert 0 in sizes
    assert max(sizes) > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_used_is_named(tmp_path, workers, capsys):
    """It vanished after the check, or becomes 0 pixels high; also in a worker of the loader."""
    Image.new("RGB", (1500, 2)).save(tmp_path / "strip.png")
    resize = T.ResizeShortestEdge(40, 60)
    mapper = DatasetMapper(is_train=False, augmentations=[resize], image_format="RGB")
    for name, message in (
        ("strip.png", "strip.png' of 1500 x 2 pixels cannot be used: "),
        ("gone.png", "gone.png'"),
    ):
        loader = TrainLoader(
            [{"file_name": str(tmp_path / name), "width": 1500, "height": 2}],
            mapper,
            lambda seed: TrainingSampler(1, seed=seed),
            batch_size=1,
            seed=0,
            num_workers=workers,
        )
        with pytest.raises(SystemExit) as stop:
            report_errors(lambda loader=loader: next(iter(loader)))
        error = capsys.readouterr().err
        assert stop.value.code == 1
        assert message in error
        assert "Traceback" not in error
        assert error.startswith("error: image '")
