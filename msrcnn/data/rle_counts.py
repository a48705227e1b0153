"""Decodes run lengths of untrusted RLE masks; pycocotools reads beyond the end of damaged ones."""

import itertools
from typing import NamedTuple

import numpy as np

FIRST, BITS = 48, 5  # a character is 48 plus 5 bits of a number and a bit that says "more follow"
LONGEST = 7  # characters of a number: 35 bits


class Runs(NamedTuple):
    """The run lengths of N masks.

    Attributes:
        values: int64 array of the run lengths of all masks one after the other, of background and
            foreground in turn.
        numbers: int64 array of shape (N,), how many run lengths each mask has.
        damaged: bool array of shape (N,), whether those of a mask are damaged and must not be used.
    """

    values: np.ndarray
    numbers: np.ndarray
    damaged: np.ndarray


def listed_counts(counts: list[list[int]]) -> Runs:
    """Joins the run lengths of masks whose RLE is not compressed."""
    values = np.array(list(itertools.chain.from_iterable(counts)), dtype=np.int64)
    numbers = np.array(list(map(len, counts)))
    return Runs(values, numbers, np.zeros(len(counts), dtype=bool))


def rle_counts(compressed: list[str]) -> Runs:
    """Decodes the compressed run lengths of N masks together, which is fast for small masks, too.

    Args:
        compressed: run lengths as in ``pycocotools.mask.encode``, decoded as ASCII.
    """
    encoded = [counts.encode("utf-8", "surrogatepass") for counts in compressed]
    sizes = np.array([len(each) for each in encoded], dtype=np.int64)
    numbers, damaged = np.zeros(len(sizes), dtype=np.int64), sizes == 0
    filled = np.flatnonzero(sizes)
    if not len(filled):
        return Runs(np.zeros(0, dtype=np.int64), numbers, damaged)
    codes = np.frombuffer(b"".join(encoded), dtype=np.uint8).astype(np.int64) - FIRST
    first = np.cumsum(sizes[filled]) - sizes[filled]  # characters
    more = (codes & 32) > 0
    last = first + sizes[filled] - 1
    wrong = np.logical_or.reduceat((codes < 0) | (codes > 63), first) | more[last]
    more[last] = False  # so that a damaged mask does not reach into the next one
    ends = np.flatnonzero(~more)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    position = np.minimum(np.arange(len(codes)) - np.repeat(starts, lengths), LONGEST)
    values = np.add.reduceat((codes & 31) << (BITS * position), starts)
    values -= ((codes[ends] & 16) > 0) * (1 << (BITS * np.minimum(lengths, LONGEST)))
    begin = np.searchsorted(starts, first)  # numbers
    count = np.diff(begin, append=len(values))
    # From the fourth on, each is the difference from the one before the last.
    index = np.arange(len(values)) - np.repeat(begin, count)
    mask = np.repeat(np.arange(len(filled)), count)
    chain = 3 * mask + np.where(index == 0, 0, 2 - index % 2)
    values = _cumulated(values, chain)
    wrong |= np.maximum.reduceat(lengths, begin) > LONGEST
    wrong |= np.minimum.reduceat(values, begin) < 0
    numbers[filled], damaged[filled] = count, wrong
    return Runs(values, numbers, damaged)


def _cumulated(values: np.ndarray, chain: np.ndarray) -> np.ndarray:
    """Returns cumulative sums of the values of each chain, in place of the values."""
    order = np.argsort(chain, kind="stable")
    sums = np.cumsum(values[order])
    heads = np.flatnonzero(np.diff(chain[order], prepend=-1))
    before = np.repeat(sums[heads] - values[order][heads], np.diff(heads, append=len(sums)))
    result = np.empty_like(values)
    result[order] = sums - before
    return result
