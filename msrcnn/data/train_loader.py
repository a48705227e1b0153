"""A training data loader whose batch i depends only on the seed and i, for exact resuming."""

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from detectron2.data.build import trivial_batch_collator
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import UserError
from .dataset_classes import training_images
from .mapper import NamedErrors

IMAGE_STREAM = 1  # ends the key of the images' random numbers, which no other stream may share
MAX_TRIES = 100  # images to try when the mapper returns None


class TrainLoader:
    """An infinite iterable over batches of mapped images that can start at any batch.

    It uses Detectron2's samplers and aspect-ratio grouping, which depend only on the seed, and
    reseeds the random number generators that mappers use (``random``, NumPy and PyTorch) for every
    image. Therefore batch i depends neither on the batches before it nor on the number of workers.

    Attributes:
        seed: seed of the sampling order and the augmentation. Read when iteration starts.
        start: index of the first batch to return. Read when iteration starts.
    """

    def __init__(
        self,
        dataset: list[dict],
        mapper: Callable[[dict], dict | None],
        sampler: Callable[[int], Sampler],
        *,
        batch_size: int,
        seed: int,
        aspect_ratio_grouping: bool = True,
        num_workers: int = 0,
    ):
        """
        Args:
            dataset: dataset dicts in Detectron2's format.
            mapper: converts a dataset dict to the model's input format, or returns ``None`` to
                skip it.
            sampler: builds this process's sampler, which must be infinite, from a seed.
            batch_size: number of images per batch in this process.
            seed: seed of the sampling order and the augmentation, the same in all processes.
            aspect_ratio_grouping: put wide and tall images into separate batches.
            num_workers: number of worker processes that map images; 0 to map them in this process.
        """
        # Serialized once and shared by all workers; the original list is not kept.
        self._dataset = DatasetFromList(dataset, copy=False)
        self._is_wide = [
            d["width"] > d["height"] if aspect_ratio_grouping else True for d in dataset
        ]
        self._mapper, self._sampler = mapper, sampler
        self._batch_size, self._num_workers = batch_size, num_workers
        self.seed, self.start = seed, 0

    @classmethod
    def from_config(cls, cfg, mapper, seed: int) -> "TrainLoader":
        """Builds the training data loader of a config.

        Args:
            cfg: a complete config.
            mapper: see :class:`TrainLoader`.
            seed: seed of the sampling order and the augmentation, the same in all processes.

        Raises:
            UserError: if the sampler is unknown or has no image to draw, or the batch size is not
                divisible by the number of processes.
        """
        dataset = training_images(cfg)
        processes = comm.get_world_size()
        parts = cfg.SOLVER.ACCUMULATE_STEPS
        if cfg.SOLVER.IMS_PER_BATCH % (processes * parts):
            by = f" x SOLVER.ACCUMULATE_STEPS {parts}" if parts > 1 else ""
            raise UserError(
                f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}; it must be divisible by the "
                f"number of processes, {processes}{by}"
            )
        return cls(
            dataset,
            mapper,
            _build_sampler(cfg, dataset),
            batch_size=cfg.SOLVER.IMS_PER_BATCH // processes,
            seed=seed,
            aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    def __iter__(self) -> Iterator[list[dict]]:
        # A generator, so seed and start are read when the first batch is requested.
        batches = itertools.islice(self._batches(), self.start, None)
        yield from DataLoader(
            _MappedImages(self._dataset, self._mapper, self.seed),
            batch_sampler=batches,
            num_workers=self._num_workers,
            collate_fn=trivial_batch_collator,
            # Without it, PyTorch would draw the workers' seeds from the global generator.
            generator=torch.Generator(),
        )

    def images(self, batch: int) -> list[dict]:
        """Returns the dataset dicts of the batch of this index."""
        (keys,) = itertools.islice(self._batches(), batch, batch + 1)
        return [self._dataset[index] for index, _ in keys]

    def _batches(self) -> Iterator[list[tuple[int, int]]]:
        """Yields batches of (image index, position in this process's sampling order)."""
        groups: dict[bool, list] = {True: [], False: []}
        for position, index in enumerate(self._sampler(self.seed)):
            group = groups[self._is_wide[index]]
            group.append((index, position))
            if len(group) == self._batch_size:
                yield group[:]
                group.clear()


def _build_sampler(cfg, dataset: list[dict]) -> Callable[[int], Sampler]:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    size = len(dataset)  # the returned functions must not keep a reference to the dataset
    if name == "TrainingSampler":
        return lambda seed: TrainingSampler(size, seed=seed)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, cfg.DATALOADER.REPEAT_THRESHOLD
        )
        return lambda seed: RepeatFactorTrainingSampler(factors, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.get("RANDOM_SUBSET_RATIO")  # v0.6 has the sampler without its key
        if ratio is None:
            raise UserError(
                f"DATALOADER.SAMPLER_TRAIN '{name}' needs a Detectron2 newer than v0.6, which has "
                "DATALOADER.RANDOM_SUBSET_RATIO"
            )
        if not 1 <= int(size * ratio) <= size:
            raise UserError(
                f"DATALOADER.RANDOM_SUBSET_RATIO is {ratio}; it must be at most 1 and leave at "
                f"least one of {size} training images"
            )
        return lambda seed: RandomSubsetTrainingSampler(
            size, ratio, seed_shuffle=seed, seed_subset=seed
        )
    raise UserError(
        f"DATALOADER.SAMPLER_TRAIN is '{name}'; allowed: 'TrainingSampler', "
        "'RepeatFactorTrainingSampler', 'RandomSubsetTrainingSampler'"
    )


class _MappedImages(Dataset):
    """Maps images, given by index and position, each with its own random numbers."""

    def __init__(self, dataset: DatasetFromList, mapper: Callable, seed: int):
        self._dataset, self._mapper = dataset, NamedErrors(mapper)
        self._seed, self._rank = seed, comm.get_rank()

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        index, position = key
        with random_numbers(self._seed, self._rank, position, IMAGE_STREAM):
            for _ in range(MAX_TRIES):
                mapped = self._mapper(self._dataset[index])
                if mapped is not None:
                    return mapped
                index = int(np.random.randint(len(self)))
        raise UserError(
            f"the mapper returned None for {MAX_TRIES} training images in a row; check the "
            "training dataset and the mapper"
        )


@contextlib.contextmanager
def random_numbers(*key: int) -> Iterator[None]:
    """Seeds ``random``, NumPy and PyTorch's CPU generator with a key within a ``with`` block.

    The previous states of the generators are restored when the block is left.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seeds = np.random.SeedSequence(key).generate_state(3).tolist()
    random.seed(seeds[0])
    np.random.seed(seeds[1])
    torch.default_generator.manual_seed(seeds[2])
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
