"""The mask of an annotation as RLE, which pycocotools computes with."""

import pycocotools.mask as mask_util


def as_rle(segmentation: list | dict, height: int, width: int) -> dict:
    """Returns a mask as compressed RLE.

    Args:
        segmentation: that of an annotation: polygons, or RLE with compressed run lengths or a list
            of them.
        height, width: size of its image in pixels.
    """
    if isinstance(segmentation, list):
        return mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return mask_util.frPyObjects(segmentation, height, width)
    return segmentation
