"""Training data of which batch i is a function of seed and i alone, for exact resume."""

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from detectron2.data import get_detection_dataset_dicts
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import UserError

OF_IMAGES = 1  # ends the key of their random numbers, so that no other has the same
MAX_TRIES = 100  # images tried in the place of one that the mapper refuses


class TrainLoader:
    """Batches of mapped images, without end, from any batch on.

    Detectron2's samplers and its grouping by aspect ratio, which depend on the seed alone; and
    the random numbers of a mapper (``random``, NumPy's and PyTorch's), which are drawn anew for
    every image. So batch i does not depend on the batches before it, nor on the number of
    workers.

    Attributes:
        seed: of order and augmentation; may be set until the first batch is taken.
        start: the first batch to give; may be set until then.
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
            dataset: Detectron2's dataset dicts.
            mapper: makes of one what the model takes, or ``None`` if it cannot be used.
            sampler: makes of a seed the sampler of this process, an endless one.
            batch_size: images of a batch in this process.
            seed: of order and augmentation, the same in all processes.
            aspect_ratio_grouping: make batches of wide, or of high images.
            num_workers: processes that map images; 0 maps them in this one.
        """
        # Serialised once for all workers; the list itself is not kept.
        self._dataset = DatasetFromList(dataset, copy=False)
        self._is_wide = [
            d["width"] > d["height"] if aspect_ratio_grouping else True for d in dataset
        ]
        self._mapper, self._sampler = mapper, sampler
        self._batch_size, self._num_workers = batch_size, num_workers
        self.seed, self.start = seed, 0

    @classmethod
    def from_config(cls, cfg, mapper, seed: int) -> "TrainLoader":
        """The loader that a config asks for.

        Args:
            cfg: a complete config.
            mapper: see :class:`TrainLoader`.
            seed: of order and augmentation, the same in all processes.

        Raises:
            UserError: for a sampler that is not known, or a batch that cannot be shared evenly.
        """
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
            if cfg.MODEL.KEYPOINT_ON
            else 0,
            proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        )
        processes = comm.get_world_size()
        if cfg.SOLVER.IMS_PER_BATCH % processes:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which {processes} processes "
                "cannot share evenly"
            )
        return cls(
            dataset,
            mapper,
            _sampler_of(cfg, dataset),
            batch_size=cfg.SOLVER.IMS_PER_BATCH // processes,
            seed=seed,
            aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    def __iter__(self) -> Iterator[list[dict]]:
        # A generator: seed and start are looked at when the first batch is taken.
        batches = itertools.islice(self._batches(), self.start, None)
        yield from DataLoader(
            _MappedImages(self._dataset, self._mapper, self.seed),
            batch_sampler=batches,
            num_workers=self._num_workers,
            collate_fn=_as_it_is,
            # PyTorch draws its workers' seeds from here, in the place of the model's numbers.
            generator=torch.Generator(),
        )

    def _batches(self) -> Iterator[list[tuple[int, int]]]:
        """Indices of the images of each batch, with their position in the order of this process."""
        groups: dict[bool, list] = {True: [], False: []}
        for position, index in enumerate(self._sampler(self.seed)):
            group = groups[self._is_wide[index]]
            group.append((index, position))
            if len(group) == self._batch_size:
                yield group[:]
                group.clear()


def _as_it_is(batch: list[dict]) -> list[dict]:
    return batch


def _sampler_of(cfg, dataset: list[dict]) -> Callable[[int], Sampler]:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    size = len(dataset)  # the samplers made later are not to keep the dataset
    if name == "TrainingSampler":
        return lambda seed: TrainingSampler(size, seed=seed)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, cfg.DATALOADER.REPEAT_THRESHOLD
        )
        return lambda seed: RepeatFactorTrainingSampler(factors, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        return lambda seed: RandomSubsetTrainingSampler(
            size, ratio, seed_shuffle=seed, seed_subset=seed
        )
    raise UserError(
        f"DATALOADER.SAMPLER_TRAIN is '{name}'; allowed: 'TrainingSampler', "
        "'RepeatFactorTrainingSampler', 'RandomSubsetTrainingSampler'"
    )


class _MappedImages(Dataset):
    """Images by index and position, mapped with random numbers of their own."""

    def __init__(self, dataset: DatasetFromList, mapper: Callable, seed: int):
        self._dataset, self._mapper = dataset, mapper
        self._seed, self._rank = seed, comm.get_rank()

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        index, position = key
        with random_numbers(self._seed, self._rank, position, OF_IMAGES):
            for _ in range(MAX_TRIES):
                mapped = self._mapper(self._dataset[index])
                if mapped is not None:
                    return mapped
                index = int(np.random.randint(len(self)))
        raise UserError(f"the mapper refused {MAX_TRIES} training images, one after the other")


@contextlib.contextmanager
def random_numbers(*key: int) -> Iterator[None]:
    """Random numbers that are a function of the key; those from before go on afterwards.

    Of ``random``, NumPy's and PyTorch's on the CPU.
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
