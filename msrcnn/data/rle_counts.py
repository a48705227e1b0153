"""Run lengths of RLE masks, decoded without trust in them: pycocotools reads past a damaged one."""

import numpy as np

FIRST, BITS = 48, 5  # a character is 48 plus 5 bits of a number and a bit that says "more follow"


def rle_counts(counts: str | list[int]) -> np.ndarray | None:
    """Returns the run lengths of COCO's RLE, or ``None`` if they are damaged.

    Args:
        counts: run lengths, or their compressed form as in ``pycocotools.mask.encode``.

    Returns:
        Int64 array of run lengths of background and foreground in turn.
    """
    if isinstance(counts, list):
        return np.array(counts, dtype=np.int64)
    codes = np.frombuffer(counts.encode("utf-8", "surrogatepass"), dtype=np.uint8).astype(np.int64)
    codes -= FIRST
    more = (codes & 32) > 0
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or more[-1]:
        return None
    ends = np.flatnonzero(~more)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:  # more than 35 bits
        return None
    position = np.arange(len(codes)) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 31) << (BITS * position), starts)
    negative = (codes[ends] & 16) > 0
    values -= negative * (1 << (BITS * lengths))
    # From the fourth on, each is the difference from the one before the last.
    for parity in (1, 2):
        values[parity::2] = np.cumsum(values[parity::2])
    return values if values.min() >= 0 else None
