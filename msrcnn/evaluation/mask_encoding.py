"""Encodes predicted masks as COCO RLE at the size of the image, without pasting them.

Detectron2 samples an M x M mask at every pixel of its box and searches the image-sized result for
runs. The pasted mask is a bilinear surface, so along an image column it is linear between the
centers of two mask rows. This module solves for the positions where a column crosses the threshold,
which costs O(box width x M) instead of O(image size). The RLE is the same: if a pixel is so close
to the threshold that rounding decides, its column is sampled exactly as Detectron2 does.
"""

import numpy as np
import pycocotools.mask as mask_util
import torch
import torch.nn.functional as F

# Bounds on the memory in use.
MAX_COLUMNS = 20_000  # image columns of all boxes processed at a time
MAX_SAMPLES = 1_000_000  # values sampled at a time


@torch.no_grad()
def encode_masks(
    masks: torch.Tensor, boxes: torch.Tensor, image_size: tuple[int, int], threshold: float = 0.5
) -> list[dict]:
    """Returns the RLE of ``paste_masks_in_image(masks, boxes, image_size, threshold)``.

    The RLE is the same bit for bit.

    Args:
        masks: tensor of shape (N, M, M) or (N, 1, M, M), probabilities in [0, 1]. Converted to
            float32.
        boxes: tensor of shape (N, 4), boxes as (x0, y0, x1, y1) in pixels of the image, on the
            same device as the masks. Boxes may extend beyond the image. A box without area or
            with values that are not finite gets an empty mask; Detectron2 removes such boxes
            before it pastes.
        image_size: height and width of the image in pixels.
        threshold: pixels with at least this probability belong to the mask; in [0.001, 1].

    Returns:
        N masks in the format of ``pycocotools.mask.encode``:
        ``{"size": [H, W], "counts": bytes}``.

    Raises:
        ValueError: if the threshold is out of range.
    """
    if not 0.001 <= threshold <= 1:  # zero padding must stay below it despite rounding
        raise ValueError(f"threshold must be in [0.001, 1], got {threshold}")
    if len(masks) == 0:
        return []
    M = masks.shape[-1]
    masks, boxes = masks.reshape(len(masks), M, M).float(), boxes.float()
    regions = _pasted_regions(boxes, M, image_size, cut_off=boxes.device.type == "cpu")
    # Groups of whole masks, so a group exceeds MAX_COLUMNS by less than one mask.
    columns_so_far = (regions[:, 2] - regions[:, 0]).cumsum(0)
    group_sizes = (columns_so_far // MAX_COLUMNS).unique_consecutive(return_counts=True)[1]
    groups = zip(*(tensor.split(group_sizes.tolist()) for tensor in (masks, boxes, regions)))
    return [
        rle
        for masks, boxes, regions in groups
        for rle in _encode_group(masks, boxes, regions, image_size, threshold)
    ]


def _pasted_regions(
    boxes: torch.Tensor, mask_size: int, image_size: tuple[int, int], cut_off: bool
) -> torch.Tensor:
    """Returns the part of the image in which each mask may set pixels.

    Args:
        boxes: tensor of shape (N, 4).
        mask_size: M.
        image_size: height and width.
        cut_off: interpolation extends a mask by half a mask cell beyond its box. If true, the
            region ends one pixel outside the box, as Detectron2 pastes on the CPU; if false, it
            includes all of the extension, as on a GPU.

    Returns:
        Long tensor of shape (N, 4): first column, first row, end column, end row.
    """
    height, width = image_size
    size = boxes[:, 2:] - boxes[:, :2]
    fade = torch.zeros_like(size) if cut_off else size / (2 * mask_size)
    limit = size.new_tensor([width, height])
    start = ((boxes[:, :2] - fade).floor() - 1).clamp(min=0).minimum(limit)
    end = ((boxes[:, 2:] + fade).ceil() + 1).minimum(limit).maximum(start)
    usable = ((size > 0) & size.isfinite()).all(dim=1, keepdim=True)
    return torch.where(usable, torch.cat([start, end], dim=1), 0.0).long()


def _encode_group(
    masks: torch.Tensor,
    boxes: torch.Tensor,
    regions: torch.Tensor,
    image_size: tuple[int, int],
    threshold: float,
) -> list[dict]:
    height, width = image_size
    M = masks.shape[-1]
    # The image columns of all masks are processed together, as one batch.
    widths = regions[:, 2] - regions[:, 0]
    owner = torch.arange(len(masks), device=masks.device).repeat_interleave(widths)
    x_offset = regions[:, 0] + widths - widths.cumsum(0)
    x = torch.arange(len(owner), device=masks.device) + x_offset[owner]
    grid_x = _grid(x, boxes[:, 0].index_select(0, owner), boxes[:, 2].index_select(0, owner))
    # Position of each column's first pixel in COCO's column-major order. The + 1 separates masks.
    top = owner * (height * width + 1) + x * height

    profiles = _column_profiles(masks, owner, grid_x, threshold)
    column, row, unsure = _crossings(profiles, owner, boxes, regions)
    position = [(top[column] + row)[~unsure[column]]]

    sampled = unsure.nonzero()[:, 0]
    at_a_time = max(MAX_SAMPLES // (M * M + height), 1)
    for i in range(0, len(sampled), at_a_time):
        part = sampled[i : i + at_a_time]
        mask = owner[part]
        column, row = _sampled_edges(
            grid_x[part], masks[mask], boxes[mask], regions[mask], threshold
        )
        position.append(top[part[column]] + row)
    return _rles(torch.cat(position).cpu().numpy(), len(masks), height, width)


def _grid(pixel: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Position of pixel centers in a box, from -1 to 1, with the same rounding as Detectron2."""
    return (pixel + 0.5 - start) / (end - start) * 2 - 1


def _column_profiles(
    masks: torch.Tensor, owner: torch.Tensor, grid_x: torch.Tensor, threshold: float
) -> torch.Tensor:
    """Interpolates masks at each image column and at the centers of the mask rows.

    Args:
        masks: tensor of shape (N, M, M).
        owner: tensor of shape (C,), the mask index of each column.
        grid_x: tensor of shape (C,), see :func:`_grid`.
        threshold: see :func:`encode_masks`.

    Returns:
        Tensor of shape (C, M + 2), mask value minus threshold at the M rows, with a row of zero
        padding on each side.
    """
    M = masks.shape[-1]
    cells = F.pad(masks, (1, 1, 1, 1)).sub(threshold).transpose(1, 2).reshape(-1, M + 2)
    # In units of mask columns: the padding's center is at 0, that of the mask's first column at 1.
    x = (((grid_x.double() + 1) * M + 1) / 2).clamp(0, M + 1)
    left = x.floor().clamp(max=M)
    index = owner * (M + 2) + left.long()
    nearest = cells.index_select(0, index), cells.index_select(0, index + 1)
    return torch.lerp(*nearest, (x - left).float()[:, None])


def _crossings(
    profiles: torch.Tensor, owner: torch.Tensor, boxes: torch.Tensor, regions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Computes the pixel rows at which image columns enter and leave their masks.

    Args:
        profiles: tensor of shape (C, M + 2), see :func:`_column_profiles`.
        owner: tensor of shape (C,), the mask index of each column.
        boxes: tensor of shape (N, 4).
        regions: tensor of shape (N, 4), see :func:`_pasted_regions`.

    Returns:
        Three tensors: for E edges, the column of shape (E,) and the row of shape (E,), which is the
        first row inside the mask or the first row after it; and a bool tensor of shape (C,), true
        for columns in which rounding may decide about a pixel. Edges of those columns are invalid.
    """
    M = profiles.shape[1] - 2
    # Bound on the difference between a pixel's value here and in Detectron2, where an operation
    # rounds by at most u = 2^-24. Detectron2 converts a position g in the box to the position
    # ((g + 1) M - 1) / 2 in the mask, with an error of 3 M u in x and in y. Here the error is
    # 3.5 M u in y, because rows are computed from the box and not from g. The value changes by at
    # most 1 per cell, and interpolation adds less than 16 u in total, which gives (9.5 M + 16) u.
    # The tolerance is 16 (M + 1) u.
    tolerance = (M + 1) * 2.0**-20
    # Flattening adds no crossings, because each column begins and ends outside its mask.
    values = profiles.flatten()
    inside, outside = values > tolerance, values < -tolerance
    changes = (inside[1:] != inside[:-1]) | (outside[1:] != outside[:-1])
    change = changes.nonzero()[:, 0]
    column = change // (M + 2)
    cell = change - column * (M + 2)
    above, below = values[change].double(), values[change + 1].double()
    ranges = torch.cat([boxes.double(), regions.double()], dim=1)[:, 1::2].contiguous()
    y0, y1, first, end = ranges.index_select(0, owner[column]).unbind(dim=1)
    rows_per_cell = (y1 - y0) / M
    # The first pixel at or after y is row ceil(y - 0.5); the center of a cell is at cell - 0.5.
    y = y0 + (cell - 0.5 + above / (above - below)) * rows_per_cell - 0.5
    error = tolerance / (above - below).abs() * rows_per_cell
    row = (y - error).ceil().maximum(first).minimum(end)
    latest = (y + error).ceil().maximum(first).minimum(end)
    near = ~((above.abs() > tolerance) & (below.abs() > tolerance))  # also true for NaN
    unsure = torch.zeros(len(profiles), dtype=torch.bool, device=profiles.device)
    unsure[column[near | (row != latest)]] = True
    return column, row.long(), unsure


def _sampled_edges(
    grid_x: torch.Tensor,
    masks: torch.Tensor,
    boxes: torch.Tensor,
    regions: torch.Tensor,
    threshold: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the edges of K columns by sampling every pixel, exactly as Detectron2 does.

    Args:
        grid_x: tensor of shape (K,), see :func:`_grid`.
        masks: tensor of shape (K, M, M), the mask of each column.
        boxes: tensor of shape (K, 4), the box of each mask.
        regions: tensor of shape (K, 4), see :func:`_pasted_regions`.
        threshold: see :func:`encode_masks`.

    Returns:
        Column and row of each edge, as in :func:`_crossings`.
    """
    start, end = regions[:, 1:2], regions[:, 3:4]
    row = start + torch.arange(int((end - start).max()), device=start.device)
    grid_y = _grid(row, boxes[:, 1:2], boxes[:, 3:4])
    grid = torch.stack([grid_x[:, None].expand_as(grid_y), grid_y], dim=2)[:, :, None]
    values = F.grid_sample(masks[:, None], grid, align_corners=False)[:, 0, :, 0]
    inside = F.pad((values >= threshold) & (row < end), (1, 1))
    column, offset = (inside[:, 1:] != inside[:, :-1]).nonzero(as_tuple=True)
    return column, start[column, 0] + offset


def _rles(position: np.ndarray, num_masks: int, height: int, width: int) -> list[dict]:
    """Builds compressed RLE from the positions at which masks switch between outside and inside.

    Args:
        position: positions in column-major order, where each mask starts height x width + 1 after
            the previous one. They need not be sorted.
        num_masks: number of masks.
        height, width: size of the image in pixels.
    """
    # A run of no pixels switches on and off at the same position. So do a run that ends at the
    # bottom of a column and one that starts at the top of the next, which are one run in RLE.
    # Positions that occur an even number of times therefore cancel. The stable sort takes linear
    # time here, because it only merges what is in order already.
    position = np.sort(position, kind="stable")
    first = np.flatnonzero(np.diff(position, prepend=-1))  # of equal positions
    position = position[first[np.diff(first, append=len(position)) % 2 == 1]]
    start = np.arange(num_masks) * (height * width + 1)
    end = start + height * width
    ends_of_runs = np.sort(np.concatenate([start, position, end]), kind="stable")
    lengths = np.diff(ends_of_runs)
    first = np.searchsorted(ends_of_runs, start)
    last = np.searchsorted(ends_of_runs, end)  # follows the run that includes the last pixel
    uncompressed = [{"size": [height, width], "counts": lengths[a:b]} for a, b in zip(first, last)]
    return mask_util.frPyObjects(uncompressed, height, width)
