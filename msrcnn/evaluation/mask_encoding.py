"""Predicted masks to COCO RLE in image size, without pasting them into images.

Detectron2 samples an M x M mask at every pixel of its box, and searches the image-sized result for
runs. But the pasted mask is a bilinear surface: along an image column it is linear between the
centres of two mask rows, so where a run begins and ends is solved for. That costs box width x M
in place of image size, and gives the very same RLE: where a pixel is so close to the threshold
that rounding decides, its column is sampled as Detectron2 samples it.
"""

import numpy as np
import pycocotools.mask as mask_util
import torch
import torch.nn.functional as F

MAX_COLUMNS = 20_000  # of all boxes, worked on at a time; they and
MAX_SAMPLES = 1_000_000  # these bound the memory


@torch.no_grad()
def encode_masks(
    masks: torch.Tensor, boxes: torch.Tensor, image_size: tuple[int, int], threshold: float = 0.5
) -> list[dict]:
    """The RLE of ``paste_masks_in_image(masks, boxes, image_size, threshold)``, bit for bit.

    Args:
        masks: probabilities of shape (N, M, M) or (N, 1, M, M), in [0, 1]. Whatever their type,
            float32 is what is computed with.
        boxes: (N, 4), as (x0, y0, x1, y1) in the image, on the device of the masks. They may
            reach outside. One without area, or not finite, has an empty mask; Detectron2 drops
            those before it pastes.
        image_size: height and width.
        threshold: a pixel from this probability on belongs to the mask; 0.001 to 1.

    Returns:
        For each mask what ``pycocotools.mask.encode`` gives: ``{"size": [H, W], "counts": bytes}``.
    """
    if not 0.001 <= threshold <= 1:  # zeros around a mask must be below it, whatever the rounding
        raise ValueError(f"threshold {threshold} is not in [0.001, 1]")
    if len(masks) == 0:
        return []
    M = masks.shape[-1]
    masks, boxes = masks.reshape(len(masks), M, M).float(), boxes.float()
    regions = _pasted_regions(boxes, M, image_size, cut_off=boxes.device.type == "cpu")
    # Groups of whole masks: MAX_COLUMNS, and at most the columns of one mask more.
    columns_so_far = (regions[:, 2] - regions[:, 0]).cumsum(0)
    group_sizes = (columns_so_far // MAX_COLUMNS).unique_consecutive(return_counts=True)[1]
    groups = zip(*(tensor.split(group_sizes.tolist()) for tensor in (masks, boxes, regions)))
    return [rle for group in groups for rle in _encode_group(*group, image_size, threshold)]


def _pasted_regions(boxes, mask_size, image_size, cut_off) -> torch.Tensor:
    """The pixels of the image that a mask may set: (N, 4), first and end column and row.

    Args:
        boxes: (N, 4).
        mask_size: M.
        image_size: height and width.
        cut_off: a mask fades out over half a cell around its box; whether to end it one pixel
            from the box, as Detectron2 does on the CPU, but not on a GPU.
    """
    height, width = image_size
    size = boxes[:, 2:] - boxes[:, :2]
    fade = torch.zeros_like(size) if cut_off else size / (2 * mask_size)
    limit = size.new_tensor([width, height])
    start = ((boxes[:, :2] - fade).floor() - 1).clamp(min=0).minimum(limit)
    end = ((boxes[:, 2:] + fade).ceil() + 1).minimum(limit).maximum(start)
    usable = ((size > 0) & size.isfinite()).all(dim=1, keepdim=True)
    return torch.where(usable, torch.cat([start, end], dim=1), 0.0).long()


def _encode_group(masks, boxes, regions, image_size, threshold) -> list[dict]:
    height, width = image_size
    M = masks.shape[-1]
    # The image columns of all masks in one row.
    widths = regions[:, 2] - regions[:, 0]
    owner = torch.arange(len(masks), device=masks.device).repeat_interleave(widths)
    x_offset = regions[:, 0] + widths - widths.cumsum(0)
    x = torch.arange(len(owner), device=masks.device) + x_offset[owner]
    grid_x = _grid(x, boxes[:, 0].index_select(0, owner), boxes[:, 2].index_select(0, owner))
    # Where they begin in the order of COCO's counts; the one more keeps masks apart.
    top = owner * (height * width + 1) + x * height

    profiles = _column_profiles(masks, owner, grid_x, threshold)
    column, row, unsure = _crossings(profiles, owner, boxes, regions)
    position = [(top[column] + row)[~unsure[column]]]

    sampled = unsure.nonzero()[:, 0]
    at_a_time = max(MAX_SAMPLES // (M * M + height), 1)
    for i in range(0, len(sampled), at_a_time):
        part = sampled[i : i + at_a_time]
        of_mask = (tensor[owner[part]] for tensor in (masks, boxes, regions))
        column, row = _sampled_edges(grid_x[part], *of_mask, threshold)
        position.append(top[part[column]] + row)
    return _rles(torch.cat(position).cpu().numpy(), len(masks), height, width)


def _grid(pixel: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Where the centres of pixels lie in a box, from -1 to 1, rounded as Detectron2 rounds it."""
    return (pixel + 0.5 - start) / (end - start) * 2 - 1


def _column_profiles(masks, owner, grid_x, threshold) -> torch.Tensor:
    """Interpolated mask minus threshold in each image column, at the centres of mask rows.

    Args:
        masks: (N, M, M).
        owner: (C,) the mask of each column.
        grid_x: (C,) from :func:`_grid`.
        threshold: see :func:`encode_masks`.

    Returns:
        (C, M + 2): the M rows, and before and after them the zeros that the mask fades into.
    """
    M = masks.shape[-1]
    cells = F.pad(masks, (1, 1, 1, 1)).sub(threshold).transpose(1, 2).reshape(-1, M + 2)
    # In units of mask columns, counted from the padding: the centre of the first real one is 1.
    x = (((grid_x.double() + 1) * M + 1) / 2).clamp(0, M + 1)
    left = x.floor().clamp(max=M)
    index = owner * (M + 2) + left.long()
    nearest = cells.index_select(0, index), cells.index_select(0, index + 1)
    return torch.lerp(*nearest, (x - left).float()[:, None])


def _crossings(profiles, owner, boxes, regions):
    """The pixel rows where columns enter and leave their masks.

    Args:
        profiles: (C, M + 2), see :func:`_column_profiles`.
        owner: (C,) the mask of each column.
        boxes: (N, 4).
        regions: (N, 4), see :func:`_pasted_regions`.

    Returns:
        Of each edge its column and its row, the first one in the mask or the first one out of it.
        And (C,), whether rounding may decide about a pixel of a column; its edges do not count.
    """
    M = profiles.shape[1] - 2
    # How far the value of a pixel here and Detectron2's can be apart, where an operation rounds by
    # at most u = 2^-24. Detectron2 makes a place in the mask, ((g + 1) M - 1) / 2, of a place g in
    # the box: off by 3 M u, in x and in y. Here it is off in y, by 3.5 M u, since rows are solved
    # for from the box and not from g. Over one cell the value changes by at most 1, and
    # interpolation adds less than 16 u on both sides: (9.5 M + 16) u. Taken are 16 (M + 1) u.
    tolerance = (M + 1) * 2.0**-20
    # All columns as one: each begins and ends outside, so that nothing changes between them.
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
    # The first pixel at or after y has the row ceil(y - 0.5); the cell's centre is at cell - 0.5.
    y = y0 + (cell - 0.5 + above / (above - below)) * rows_per_cell - 0.5
    error = tolerance / (above - below).abs() * rows_per_cell
    row = (y - error).ceil().maximum(first).minimum(end)
    latest = (y + error).ceil().maximum(first).minimum(end)
    near = ~((above.abs() > tolerance) & (below.abs() > tolerance))  # true for NaN too
    unsure = torch.zeros(len(profiles), dtype=torch.bool, device=profiles.device)
    unsure[column[near | (row != latest)]] = True
    return column, row.long(), unsure


def _sampled_edges(grid_x, masks, boxes, regions, threshold) -> tuple[torch.Tensor, torch.Tensor]:
    """The edges of :func:`_crossings`, by Detectron2's own samples of K columns.

    Args:
        grid_x: (K,) from :func:`_grid`.
        masks: (K, M, M) the mask of each column.
        boxes: (K, 4) its box.
        regions: (K, 4), see :func:`_pasted_regions`.
        threshold: see :func:`encode_masks`.
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
    """Compressed RLE of masks, from the positions where they switch between outside and inside.

    Positions are counted down the columns, a mask's height x width + 1 after the one before it;
    they come in any order.
    """
    # A run without a pixel switches on and off at one place, and so do two runs that touch, one
    # at the foot of a column and one at the top of the next: what switches twice does not count.
    position, times = np.unique(position, return_counts=True)
    position = position[times % 2 == 1]
    start = np.arange(num_masks) * (height * width + 1)
    end = start + height * width
    ends_of_runs = np.sort(np.concatenate([start, position, end]))
    lengths = np.diff(ends_of_runs)
    first = np.searchsorted(ends_of_runs, start)
    last = np.searchsorted(ends_of_runs, end)  # after the run that reaches the last pixel
    uncompressed = [{"size": [height, width], "counts": lengths[a:b]} for a, b in zip(first, last)]
    return mask_util.frPyObjects(uncompressed, height, width)
