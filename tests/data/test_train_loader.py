import itertools
import random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler

from msrcnn.data import MaskScoringDatasetMapper
from msrcnn.data.train_loader import TrainLoader, random_numbers
from msrcnn.errors import UserError

IMAGES = [{"id": i, "width": 10 + i % 3, "height": 11} for i in range(23)]


def draw(image):
    """A mapper that draws from every random number generator."""
    return {**image, "drawn": (random.random(), np.random.random(), torch.rand(()).item())}


def make(mapper=draw, seed=5, **kwargs):
    kwargs = {"batch_size": 4, **kwargs}
    return TrainLoader(
        IMAGES, mapper, lambda seed: TrainingSampler(len(IMAGES), seed=seed), seed=seed, **kwargs
    )


def take(loader, number):
    return list(itertools.islice(loader, number))


@pytest.mark.parametrize("grouping", [True, False])
@pytest.mark.parametrize("start", [1, 7, 30])
def test_starts_at_any_batch(grouping, start):
    expected = take(make(aspect_ratio_grouping=grouping), start + 5)
    loader = make(aspect_ratio_grouping=grouping)
    loader.start = start
    assert take(loader, 5) == expected[start:]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_does_not_depend_on_the_number_of_workers(workers):
    assert take(make(num_workers=workers), 9) == take(make(), 9)


def test_every_image_is_sampled_once_per_epoch():
    images = [image["id"] for batch in take(make(batch_size=1), 2 * 23) for image in batch]
    assert sorted(images[:23]) == sorted(images[23:]) == list(range(23))
    assert images[:23] != images[23:]


def test_seed_determines_order_and_augmentation():
    assert take(make(seed=5), 3) == take(make(seed=5), 3)
    first, other = (take(make(seed=seed), 6) for seed in (5, 6))
    assert [i["id"] for b in first for i in b] != [i["id"] for b in other for i in b]
    assert not {i["drawn"] for b in first for i in b} & {i["drawn"] for b in other for i in b}


def test_an_image_is_augmented_differently_each_time():
    drawn = [image["drawn"] for batch in take(make(), 30) for image in batch]
    assert len(set(drawn)) == len(drawn)


def test_groups_by_aspect_ratio():
    for batch in take(make(), 20):
        assert len({image["width"] > image["height"] for image in batch}) == 1
    mixed = [
        len({i["width"] > i["height"] for i in batch})
        for batch in take(make(aspect_ratio_grouping=False), 20)
    ]
    assert 2 in mixed


def test_global_random_state_is_unchanged():
    """PyTorch would otherwise draw the seeds of its workers from it."""
    for workers in (0, 2):
        loader = iter(make(num_workers=workers))
        torch.manual_seed(1)
        next(loader)
        found = torch.rand(3)
        torch.manual_seed(1)
        assert torch.equal(found, torch.rand(3)), workers


def test_random_state_is_restored_after_an_error():
    np.random.seed(3)
    with pytest.raises(ZeroDivisionError), random_numbers(1, 2):
        raise ZeroDivisionError(np.random.random())
    found = np.random.random()
    np.random.seed(3)
    assert found == np.random.random()


def test_skipped_images_are_replaced():
    def skip_odd(image):
        return None if image["id"] % 2 else draw(image)

    batches = take(make(skip_odd), 10)
    assert all(image["id"] % 2 == 0 for batch in batches for image in batch)
    loader = make(skip_odd, num_workers=2)
    loader.start = 4
    assert take(loader, 6) == batches[4:]
    with pytest.raises(UserError, match="returned None for 100 training images in a row"):
        next(iter(make(lambda image: None)))


@pytest.fixture
def cfg(tiny_cfg, shapes_root):
    name = f"loader_{shapes_root.name}"
    if name not in DatasetCatalog.list():
        annotations = shapes_root / "annotations" / "instances_train.json"
        register_coco_instances(name, {}, str(annotations), str(shapes_root / "train"))
    tiny_cfg.DATASETS.TRAIN = (name,)
    return tiny_cfg


@pytest.mark.parametrize(
    "sampler",
    ["TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"],
)
def test_from_config_with_real_images_and_augmentation(cfg, sampler):
    cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.REPEAT_THRESHOLD = sampler, 0.5
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.7
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.MIN_SIZE_TRAIN = True, (64, 96)
    batches = []
    for workers in (0, 2):
        cfg.DATALOADER.NUM_WORKERS = workers
        loader = TrainLoader.from_config(cfg, MaskScoringDatasetMapper(cfg, True), seed=9)
        loader.start = 2
        batches.append(take(loader, 4))
    for first, second in zip(*batches, strict=True):
        assert len(first) == cfg.SOLVER.IMS_PER_BATCH
        for a, b in zip(first, second, strict=True):
            assert a["image_id"] == b["image_id"]
            assert torch.equal(a["image"], b["image"])
            assert torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)


def test_uses_the_sampler_of_detectron2(cfg):
    cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.REPEAT_THRESHOLD = (
        "RepeatFactorTrainingSampler",
        0.5,
    )
    cfg.DATALOADER.ASPECT_RATIO_GROUPING, cfg.SOLVER.IMS_PER_BATCH = False, 1
    loader = TrainLoader.from_config(cfg, lambda image: image, seed=9)
    dataset = loader._dataset
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(dataset, 0.5)
    expected = itertools.islice(RepeatFactorTrainingSampler(factors, seed=9), 20)
    assert [b[0]["image_id"] for b in take(loader, 20)] == [
        dataset[i]["image_id"] for i in expected
    ]


@pytest.mark.parametrize("ratio", [0.0, 0.001, 1.5])
def test_subset_without_images(cfg, ratio):
    cfg.DATALOADER.SAMPLER_TRAIN = "RandomSubsetTrainingSampler"
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = ratio
    with pytest.raises(UserError, match=f"RATIO is {ratio}; it must be at most 1 and leave at"):
        TrainLoader.from_config(cfg, lambda image: image, seed=9)


def test_subset_needs_its_key(cfg):
    """Detectron2 v0.6 has the sampler, but not the key of its ratio."""
    cfg.DATALOADER.SAMPLER_TRAIN = "RandomSubsetTrainingSampler"
    cfg.DATALOADER.pop("RANDOM_SUBSET_RATIO", None)
    with pytest.raises(UserError, match="needs a Detectron2 newer than v0.6"):
        TrainLoader.from_config(cfg, lambda image: image, seed=9)


def test_unknown_sampler(cfg):
    cfg.DATALOADER.SAMPLER_TRAIN = "Sampler"
    with pytest.raises(UserError, match="SAMPLER_TRAIN is 'Sampler'"):
        TrainLoader.from_config(cfg, lambda image: image, seed=9)
